"""Do the next piece of work while the present one is used. Knows nothing of what the work is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(work: Callable[[T], R], pieces: Sequence[T]) -> Iterator[R]:
    """Return what `work` makes of each piece, in order; a thread makes it while the one before is used.

    What `work` raises is raised where its piece would come.
    """
    if len(pieces) < 2:
        yield from map(work, pieces)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
        coming = thread.submit(work, pieces[0])
        for piece in pieces[1:]:
            made, coming = coming.result(), thread.submit(work, piece)
            yield made
        yield coming.result()


def pieces_of(sizes: Sequence[int], first: int, others: int) -> list[range]:
    """Cut a sequence into pieces of about these sizes in all; a small one first is soon ready."""
    found: list[range] = []
    start, room = 0, first
    for place, size in enumerate(sizes):
        room -= size
        if room <= 0:
            found.append(range(start, place + 1))
            start, room = place + 1, others
    if start < len(sizes):
        found.append(range(start, len(sizes)))
    return found
