"""Pieces come in order, one is made ahead, and a fault comes in its place."""

from __future__ import annotations

import threading

import pytest

from cynosure.models.read_ahead import pieces_of, read_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_pieces_come_in_order(count: int) -> None:
    assert list(read_ahead(lambda n: n * n, range(count))) == [n * n for n in range(count)]


def test_the_next_is_made_while_one_is_used() -> None:
    made = {n: threading.Event() for n in range(3)}

    def make(number: int) -> int:
        made[number].set()
        return number

    for number in read_ahead(make, range(3)):
        assert number == 2 or made[number + 1].wait(10)


def test_one_piece_needs_no_thread() -> None:
    assert list(read_ahead(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]


def test_a_fault_comes_in_its_place() -> None:
    found = read_ahead(lambda n: 1 // (2 - n), range(4))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([], []),
        ([1], [1]),
        ([3, 1, 1, 1, 1, 1, 9], [1, 4, 2]),
        ([1, 1, 1], [2, 1]),
        ([50, 50], [1, 1]),
    ],
)
def test_pieces_are_of_about_a_size(sizes: list[int], pieces: list[int]) -> None:
    found = pieces_of(sizes, 2, 4)
    assert [len(piece) for piece in found] == pieces
    assert [place for piece in found for place in piece] == list(range(len(sizes)))
