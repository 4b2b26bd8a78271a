"""Test which parts of Python source are told apart."""

from __future__ import annotations

import warnings

import pytest

from cynosure.retrieval.files.code import python_marks

SOURCE = '''"""Module."""
import os

@cache
def first(x):
    return x

class Box:
    size = 1

    async def open(self):
        def inner(): ...

    after = 2

last = 3
'''


def test_functions_classes_and_what_lies_between() -> None:
    marks = python_marks(SOURCE)
    ends = [*(mark.start for mark in marks[1:]), len(SOURCE)]
    parts = [
        (m.place, m.kind, SOURCE[m.start : end].split("\n")[0]) for m, end in zip(marks, ends, strict=True)
    ]
    assert parts == [
        ("", "code", '"""Module."""'),
        ("first", "function", "@cache"),
        ("", "code", ""),
        ("Box", "class", "class Box:"),
        ("Box.open", "method", "    async def open(self):"),
        ("Box", "class", ""),
        ("", "code", ""),
    ]


@pytest.mark.parametrize("text", ["", "def (", "\x0c1", "(" * 500, "x = '\\d'\n", "if 1:\n\tx\n        y"])
def test_source_that_does_not_parse_is_one_part(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(python_marks(text)) == 1
