from __future__ import annotations

import pytest

from cynosure.cli.editor.extent import Extent, ended

BODY = "        a = 1\n\n        if a:\n            b()\n"


def test_a_line_ends_with_its_break() -> None:
    assert ended("a = 1", Extent.LINE, "") is None
    assert ended("a = 1\n", Extent.LINE, "") == "a = 1"
    assert ended("\nb", Extent.LINE, "x") == ""


@pytest.mark.parametrize(
    ("line_before", "text", "block"),
    [
        # Behind a colon: what is indented more.
        ("    def f():", f"\n{BODY}    def g():", f"\n{BODY[:-1]}"),
        ("    def f():  # why", "\n        a\n    b", "\n        a"),
        ("if a", " and b:\n    c\nd", " and b:\n    c"),
        # In a block: what is indented as much.
        ("        ", "a = 1\n        b = 2\n    c", "a = 1\n        b = 2"),
        ("        x = ", "1\n        y = 2\n\n    z", "1\n        y = 2"),
        # At the margin: the next statement that stands apart.
        ("", "def f():\n    pass\n\n\nclass", "def f():\n    pass"),
        ("", "import a\nimport b\n\nx", "import a\nimport b"),
        ("", "if a:\n    b\nelse:\n    c\nd", "if a:\n    b\nelse:\n    c"),
        ("", "f(\n    1,\n)\n\ng", "f(\n    1,\n)"),
        # The first line that is written says how far.
        ("", "\n    a\n    b\nc", "\n    a\n    b"),
        ("\t", "a\n\tb\nc", "a\n\tb"),
    ],
)
def test_a_block_ends_where_indentation_does(line_before: str, text: str, block: str) -> None:
    assert ended(text, Extent.BLOCK, line_before) == block


@pytest.mark.parametrize(
    ("line_before", "text"),
    [
        ("    def f():", f"\n{BODY}"),
        ("    ", "a\n\n    b\n   "),
        ("", "if a:\n    b\nel"),
        ("", "if a:\n    b\n\nexcep"),
        ("", ""),
    ],
)
def test_a_block_that_may_go_on_is_not_ended(line_before: str, text: str) -> None:
    assert ended(text, Extent.BLOCK, line_before) is None


def test_a_name_that_begins_like_a_clause_is_none() -> None:
    assert ended("if a:\n    b\nelsewhere = 1", Extent.BLOCK, "") == "if a:\n    b"


def test_it_ends_at_the_same_place_however_the_text_arrives() -> None:
    text = f"\n{BODY}    def g():\n        pass\n"
    for length in range(len(text) + 1):
        found = ended(text[:length], Extent.BLOCK, "    def f():")
        assert found in (None, f"\n{BODY[:-1]}")
