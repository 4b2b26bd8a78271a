"""Test that marked-up text becomes what a reader sees, and that code stays as it is."""

from __future__ import annotations

import pytest

from cynosure.retrieval.reference_markup import plain


@pytest.mark.parametrize(
    ("marked", "seen"),
    [
        ("use ``heap[0]``.", "use heap[0]."),
        ("``f(*args, **kwargs)`` and *args*", "f(*args, **kwargs) and args"),
        (":func:`heapify`, :func:`sorted()`", "heapify(), sorted()"),
        (":meth:`~object.__str__`", "__str__()"),
        (":class:`~decimal.Decimal` or :class:`!Color`", "Decimal or Color"),
        (":ref:`sequences <typesseq>`", "sequences"),
        ("see :ref:`sorting-how-to`", "see sorting how to"),
        (":pep:`8` and :rfc:`2822`", "PEP 8 and RFC 2822"),
        ("a `recipe <https://example.org/x>`_ and `Examples`_", "a recipe and Examples"),
        ("**Infinite iterators:** *n* largest", "Infinite iterators: n largest"),
        ("2 * 3 * 4 and a*b*c", "2 * 3 * 4 and a*b*c"),
        (r"func(\*seq[0])", "func(*seq[0])"),
        ("false. [1]_ Here", "false. Here"),
        ("|version| of |other|", "3.11 of |other|"),
        (":meth:`repr(object)\n   <repr>`", "repr(object)"),
        ("", ""),
    ],
)
def test_markup(marked: str, seen: str) -> None:
    assert plain(marked, {"version": "3.11"}) == seen
