"""Find passages in some files of a store. Knows nothing of tenants, and keeps nothing.

Scores are those of one's own files on the command line; what the caller may not, or does not want to, see is
left out before the best are taken, so that it takes nobody's place.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cynosure.retrieval.files.scoring import FILE_CALIBRATION, FILE_WEIGHTS
from cynosure.retrieval.library.records import FileHit, Shelved
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.rank import fuse
from cynosure.retrieval.search import DocsSearch, check_question
from cynosure.retrieval.store import Store


class FileSearch:
    """Search over the index of one store. May be asked by several threads."""

    def __init__(self, store: Store, embedder: Embedder) -> None:
        """Take an opened index, whose entries have their file's id as module."""
        self._store = store
        self._embedder = embedder
        self._search = DocsSearch(store, embedder, FILE_WEIGHTS, FILE_CALIBRATION)
        self._files = np.array([entry.module for entry in store.contents.entries], dtype=object)

    def search(self, query: str, max_results: int, permitted: Mapping[str, Shelved]) -> list[FileHit]:
        """The best passages of the permitted files, by id, one of each part of a file, best first.

        Raises:
            EmptyInput, InputTooLong, InputError: the query can't be asked.
        """
        check_question(query, self._embedder)
        places = np.flatnonzero(np.array([file in permitted for file in self._files], dtype=bool))
        if not len(places):
            return []
        seen = self._search.witnesses(query, self._embedder.embed([query])[0])
        scores = fuse(seen, self._search.prior, FILE_WEIGHTS)
        best = places[np.argsort(-scores[places], kind="stable")[:max_results]]
        contents = self._store.contents
        hits = []
        for place in best.tolist():
            entry, passage = contents.entries[place], contents.passages[seen.passage[place]]
            file = permitted[entry.module]
            hits.append(
                FileHit(
                    file_id=file.id,
                    filename=file.filename,
                    attributes=file.attributes,
                    name=entry.name,
                    kind=entry.kind,
                    text=entry.doc[passage.start : passage.end],
                    start=entry.start + passage.start,
                    end=entry.start + passage.end,
                    score=round(FILE_CALIBRATION.chance(float(scores[place])), 4),
                    similarity=round(float(seen.similarity[place]), 4),
                )
            )
        return hits
