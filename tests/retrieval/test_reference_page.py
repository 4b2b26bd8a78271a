"""Test that a page of the reference yields its objects and sections as a reader sees them."""

from __future__ import annotations

import pytest

from cynosure.retrieval.reference_page import Described, Page
from tests.retrieval.reference_fakes import FUNCTIONS, HEAPQ


@pytest.fixture(scope="module")
def found() -> dict[str, Described]:
    return {one.name: one for one in Page(HEAPQ).described}


def test_an_object_has_its_text_without_markup_and_its_code_as_it_is(found: dict[str, Described]) -> None:
    merge = found["heapq.merge"]
    assert (merge.kind, merge.module) == ("function", "heapq")
    assert merge.signature == "(*iterables, key=None, reverse=False)"
    assert merge.text == (
        "Merge sorted inputs, such as logs:\n\n   >>> list(merge(*logs))\n\n"
        "Returns an iterator.\n\nNote:\nNothing is loaded at once."
    )


def test_two_signatures_are_two_objects_with_one_text(found: dict[str, Described]) -> None:
    assert found["heapq.nlargest"].text == found["heapq.largest"].text == "Return the n largest."
    assert found["heapq.largest"].signature == "(n)"


def test_what_is_described_inside_a_class_is_the_class_s(found: dict[str, Described]) -> None:
    assert found["heapq.Heap"].text == "A heap. It is small."
    assert (found["heapq.Heap.push"].kind, found["heapq.Heap.push"].text) == ("method", "Put item in.")
    assert (found["heapq.Heap.size"].kind, found["heapq.Heap.size"].text) == ("property", "How many.")


def test_sections_are_the_module_s() -> None:
    first, second = Page(HEAPQ).sections
    assert first.module == second.module == "heapq"
    assert first.text == (
        "heapq --- Heap queue algorithm\n\nHeaps are trees for which heap[k] <= heap[2*k+1]."
    )
    assert second.text.startswith("Basic Examples\n\nA heapsort pushes all values.\n\n   heap = [*values]")
    assert "linenos" not in second.text
    assert "===" not in second.text
    assert second.text.endswith("Name    Meaning\na   first")


def test_builtins_stand_without_a_module() -> None:
    page = Page(FUNCTIONS)
    assert [one.name for one in page.described] == ["len", "str.strip", "str.__add__", "Ellipsis"]
    assert {one.module for one in page.described} == {"builtins"}
    assert page.sections == []


@pytest.mark.parametrize("source", ["", "\n", "Text alone.\n", ".. function::\n", ".. class:: X()\n", "::\n"])
def test_little_is_no_fault(source: str) -> None:
    page = Page(source)
    assert (page.described, page.sections) == ([], [])


def test_code_of_a_literal_block_keeps_its_stars() -> None:
    (one,) = Page(".. function:: f()\n\n   Say::\n\n      *a*, ``b``\n\n   And *c*.\n").described
    assert one.text == "Say:\n\n   *a*, ``b``\n\nAnd c."
