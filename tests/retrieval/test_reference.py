"""Test that installed reference documentation is found, another version's is not, and what is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval.documents import REFERENCE, Entry
from cynosure.retrieval.reference import (
    checked_reference,
    find_reference,
    python_version,
    read_reference,
    reference_mark,
)
from tests.retrieval.reference_fakes import write_reference

KNOWN = (
    Entry("heapq", "module", "heapq", "", "Heap queue algorithm."),
    Entry("heapq.merge", "function", "heapq", "(*iterables)", "Merge.", aliases=("heapq.join",)),
    Entry("heapq.largest", "function", "heapq", "", "Old.", aliases=("heapq.nlargest",)),
    Entry("abs", "function", "builtins", "(x)", "Return the absolute value."),
)


def test_it_is_found_where_debian_puts_it_and_where_pydoc_is_told(tmp_path: Path) -> None:
    assert find_reference({}, tmp_path) is None
    usual = write_reference(tmp_path / "usr/share/doc" / f"python{python_version()}" / "html")
    assert find_reference({}, tmp_path) == usual
    named = write_reference(tmp_path / "docs")
    for value in (named, named / "library"):
        assert find_reference({"PYTHONDOCS": str(value)}, tmp_path) == named
    for value in ("https://docs.python.org/3/library", str(tmp_path / "none")):
        assert find_reference({"PYTHONDOCS": value}, tmp_path) == usual


def test_another_version_is_passed_over_and_refused_by_name(tmp_path: Path) -> None:
    old = write_reference(tmp_path / "docs", "2.7")
    assert find_reference({"PYTHONDOCS": str(old)}, tmp_path) is None
    with pytest.raises(EnvironmentFault, match=r"documents Python 2\.7; this is"):
        checked_reference(old)
    with pytest.raises(EnvironmentFault, match="holds no reference documentation"):
        checked_reference(tmp_path)
    assert checked_reference(write_reference(tmp_path / "new")) == tmp_path / "new"


def test_texts_bear_the_interpreter_s_names(tmp_path: Path) -> None:
    found = read_reference(write_reference(tmp_path), KNOWN)
    names = [entry.name for entry in found]
    assert {entry.source for entry in found} == {REFERENCE}
    assert {"heapq.merge", "heapq.largest", "heapq.Heap.push", "str.strip", "len"} <= set(names)
    # Another name of a known object, what is private, and the FAQ.
    assert not {"heapq.nlargest", "str.__add__", "why"} & set(names)


def test_a_section_counts_in_its_module_s_whole_text(tmp_path: Path) -> None:
    first, second = (one for one in read_reference(write_reference(tmp_path), KNOWN) if one.kind == "module")
    assert first.start == 0
    assert second.start == len(first.doc) + 2
    assert second.doc.startswith("Basic Examples")


def test_the_mark_changes_with_a_page(tmp_path: Path) -> None:
    folder = write_reference(tmp_path)
    before = reference_mark(folder)
    assert before == reference_mark(folder)
    assert reference_mark(None) == ""
    page = folder / "_sources/library/heapq.rst.txt"
    page.write_text(page.read_text() + "\n")
    assert reference_mark(folder) != before


def test_a_page_that_is_no_text_is_said(tmp_path: Path) -> None:
    folder = write_reference(tmp_path)
    (folder / "_sources/library/heapq.rst.txt").write_bytes(b"ab\xff")
    with pytest.raises(EnvironmentFault, match="not UTF-8 at byte 2"):
        read_reference(folder, KNOWN)
