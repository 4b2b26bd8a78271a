"""Run the snippets of the page on attention, and draw its pictures again."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def draw_masks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_masks", DOCS / "draw_masks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_snippets_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    snippets = FENCE.findall((DOCS / "attention.md").read_text(encoding="utf-8"))
    assert len(snippets) >= 8
    names: dict[str, object] = {}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"docs/attention.md, snippet {number}", "exec"), names)
    assert "runs on" in capsys.readouterr().out


def test_the_pictures_show_the_masks_of_their_texts(draw_masks: ModuleType) -> None:
    drawn = draw_masks.pictures()
    assert len(drawn) >= 10
    assert len(set(drawn.values())) == len(drawn)
    for path, image in drawn.items():
        assert path.read_bytes() == image, f"{path.name} is stale; run make docs"
