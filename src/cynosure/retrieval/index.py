"""Build an index of documentation, and open it again. Knows nothing of questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cynosure.retrieval.asked_phrases import phrases_of
from cynosure.retrieval.documents import Documentation, Entry, Passage
from cynosure.retrieval.passages import cut
from cynosure.retrieval.protocols import Embedder, Progress
from cynosure.retrieval.store import Contents, Store, fingerprint, write_store

SLICE = 512


def build_index(
    path: Path, documentation: Documentation, embedder: Embedder, progress: Progress | None = None
) -> None:
    """Cut, embed and write; `progress` is told of texts done and to do: passages, then phrases."""
    entries = documentation.entries
    phrases = phrases_of(entries, documentation.asked)
    passages = tuple(cut(entries, embedder.count_tokens, embedder.max_tokens))
    total = len(passages) + len(phrases)

    def beyond(done: int) -> Progress:
        return lambda more, _: progress(done + more, total) if progress else None

    vectors = embed_passages(entries, passages, embedder, beyond(0))
    asked = embed_texts([phrase.text for phrase in phrases], embedder, beyond(len(passages)))
    contents = Contents(entries, passages, vectors, phrases=phrases, phrase_vectors=asked)
    write_store(path, contents, fingerprint(documentation.source, embedder))


def embed_passages(
    entries: Sequence[Entry],
    passages: Sequence[Passage],
    embedder: Embedder,
    progress: Progress | None = None,
) -> Float32[np.ndarray, "passages dim"]:
    """A vector for each passage; `progress` is told of passages done and to do."""
    return embed_texts([passage.text(entries[passage.entry].doc) for passage in passages], embedder, progress)


def embed_texts(
    texts: Sequence[str], embedder: Embedder, progress: Progress | None = None
) -> Float32[np.ndarray, "texts dim"]:
    """A vector for each text; `progress` is told of texts done and to do."""
    vectors = np.zeros((len(texts), embedder.dim), dtype=np.float32)
    # Texts of like length go together, so that a batch has little padding.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), SLICE):
        places = order[start : start + SLICE]
        vectors[places] = embedder.embed([texts[place] for place in places])
        if progress is not None:
            progress(start + len(places), len(texts))
    return vectors


def open_index(path: Path, source: str, embedder: Embedder) -> Store:
    """Open the index of `source` made with `embedder`.

    Raises:
        IndexFault: It is absent, stale or damaged; build it.
    """
    return Store(path, fingerprint(source, embedder))
