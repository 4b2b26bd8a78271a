"""Test that rows stay whole."""

from __future__ import annotations

from itertools import pairwise

from cynosure.retrieval.files.table import BLOCK, read_table


def test_blocks_end_between_rows() -> None:
    row = 'a,"two\nlines ' + "x" * 90 + '"\n'
    text = "name,what\n" + row * 30
    read = read_table(text, ",")
    assert read.columns == "(name, what)"
    assert len(read.marks) > 2
    assert all(text[mark.start :].startswith('a,"two\n') for mark in read.marks[1:] if mark.start < len(text))
    ends = [mark.start for mark in read.marks]
    assert all(after - before < BLOCK + len(row) for before, after in pairwise(ends))
    assert read.marks[1].place == f"from row {2 + (read.marks[1].start - 10) // len(row)}"


def test_tables_that_are_none() -> None:
    assert len(read_table("", ",").marks) == 1
    assert read_table("x" * 400, ",").columns == ""
    assert len(read_table("a,b\n" + "x" * 200_000, ",").marks) == 1
