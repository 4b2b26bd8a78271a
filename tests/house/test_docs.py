"""The pages a reader meets are short, complete, and name only what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.rules import PACKAGE, ROOT

MAX_README = 150
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/log.md",
    "docs/decisions/README.md",
]

# A number with a unit of speed or quality stands in a figure, where a test compares it with results/.
CLAIM = re.compile(r"\d\s?(?:ms|s|GB/s|tok/s|tokens/s|TFLOP/s|x faster|times faster)\b|\b0\.\d{2,}\b|\d\s?%")
FIGURE = re.compile(r"<!-- (figure|table):.*?<!-- /\1 -->", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def claims_outside_figures(text: str) -> list[str]:
    return [line for line in FIGURE.sub("", text).splitlines() if CLAIM.search(line)]


def dead_links(page: Path) -> list[str]:
    return [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]


def targets(text: str) -> set[str]:
    """The `make` targets that a text tells people to run."""
    return set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", PAGES)
def test_pages_exist_and_their_links_lead_somewhere(name: str) -> None:
    assert not dead_links(ROOT / name)


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[here](page.md) [there](absent.md#part) [web](https://example.org)")
    assert dead_links(page) == ["absent.md"]


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README


def test_the_readme_claims_nothing_outside_figures() -> None:
    assert not claims_outside_figures((ROOT / "README.md").read_text())


def test_the_readme_s_library_example_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (library,) = [block for block in blocks if "from cynosure" in block]
    subprocess.run([sys.executable, "-c", library], check=True, timeout=60)


def test_a_claim_outside_a_figure_is_found() -> None:
    inside = "<!-- figure: start.second_start_s .1f -->2.5<!-- /figure --> seconds, 3 rooms, Python 3.11"
    assert not claims_outside_figures(inside)
    for claim in ("starts in 2.5 s", "MRR@10 of 0.512", "31% better", "2x faster", "900 tokens/s"):
        assert claims_outside_figures(f"{inside}\n{claim}") == [claim]


@pytest.mark.parametrize("name", PAGES)
def test_every_make_target_that_is_named_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert {"help", "serve", "test", "check", "fmt", "bench", "docs", "test-browser", "clean"} <= known
    assert targets((ROOT / name).read_text()) <= known


def test_a_target_that_does_not_exist_is_found() -> None:
    assert targets("run `make tea`, then\nmake coffee ARGS=2\n") == {"tea", "coffee"}


def test_the_map_shows_every_room() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (any(path.glob("[!_]*.*")))}
    for name in ("README.md", "ARCHITECTURE.md"):
        text = (ROOT / name).read_text()
        assert {room for room in rooms if not re.search(rf"\b{room}\b", text)} == set(), name


def test_continuous_integration_calls_what_people_call() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "make check test test-browser" in script


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listing = (folder / "README.md").read_text()
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert decisions
    assert not [name for name in decisions if f"({name})" not in listing]
