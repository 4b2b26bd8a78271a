"""Make a new index out of entries of an old one and new ones. Knows nothing of files or paths.

What is kept keeps its vectors: only new entries are cut and embedded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import InputTooLong
from cynosure.retrieval.documents import Entry, Passage
from cynosure.retrieval.index import embed_passages
from cynosure.retrieval.passages import cut
from cynosure.retrieval.protocols import Embedder, Progress
from cynosure.retrieval.store import Contents

#: Characters of all entries of one index.
MAX_TEXT = 128 << 20


def empty(dim: int) -> Contents:
    """An index that holds nothing."""
    return Contents((), (), np.zeros((0, dim), np.float32))


def grown(
    old: Contents,
    kept: Sequence[int],
    fresh: Sequence[Entry],
    embedder: Embedder,
    progress: Progress | None = None,
    notes: str = "{}",
) -> Contents:
    """Entries of an old index with their vectors, then new ones that are embedded.

    Args:
        old: The old index, made with the same embedder.
        kept: Places of the entries that stay, in order.
        fresh: New entries.
        embedder: Makes their vectors.
        progress: Told of passages embedded and to embed.
        notes: What the new index notes (JSON).

    Raises:
        InputTooLong: there would be more text than one index may hold.
    """
    entries = (*(old.entries[place] for place in kept), *fresh)
    size = sum(len(entry.doc) for entry in entries)
    if size > MAX_TEXT:
        raise InputTooLong(
            f"the files hold {size >> 20} Mi characters; the limit is {MAX_TEXT >> 20} Mi. Name fewer."
        )
    moved = {place: now for now, place in enumerate(kept)}
    rows = [row for row, passage in enumerate(old.passages) if passage.entry in moved]
    passages = [_at(old.passages[row], moved[old.passages[row].entry]) for row in rows]
    made = [_at(one, one.entry + len(kept)) for one in cut(fresh, embedder.count_tokens, embedder.max_tokens)]
    vectors: Float32[np.ndarray, "n dim"] = embed_passages(entries, made, embedder, progress)
    together = np.concatenate([old.vectors[rows], vectors])
    return Contents(entries, (*passages, *made), together, notes)


def _at(passage: Passage, entry: int) -> Passage:
    return Passage(entry, passage.start, passage.end, passage.heading)
