"""The snippets of the guard's page run as they stand."""

from __future__ import annotations

import re

import pytest

from tests.house.rules import ROOT

SNIPPETS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "guard.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_the_page_has_snippets() -> None:
    assert SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet: str) -> None:
    exec(compile(snippet, "docs/guard.md", "exec"), {})
