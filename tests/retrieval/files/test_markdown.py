"""Test which lines of Markdown are headings."""

from __future__ import annotations

import pytest

from cynosure.retrieval.files.markdown import markdown_marks


def _places(text: str) -> list[str]:
    return [mark.place for mark in markdown_marks(text)][1:]


def test_headings_are_called_by_those_above() -> None:
    text = "intro\n# A #\n### C\n## B\nx\n# D\n"
    assert _places(text) == ["A", "A > C", "A > B", "D"]
    assert [text[mark.start] for mark in markdown_marks(text)[1:]] == ["#"] * 4


def test_underlined_headings() -> None:
    assert _places("Title\n=====\n\nPart\n---\n") == ["Title", "Title > Part"]


@pytest.mark.parametrize(
    "text",
    ["", "```\n# no\n```", "~~~ py\n# no\n```\n# no\n~~~", "    # no", "#no", "####### no", "a\nb\n---",
     "- a\n---", "---\n# title: no\n---\n", "\n---\n"],
)  # fmt: skip
def test_what_is_no_heading(text: str) -> None:
    assert _places(text) == []


def test_after_a_fence_headings_count_again() -> None:
    assert _places("````\n```\n# no\n````\n# yes\n") == ["yes"]
