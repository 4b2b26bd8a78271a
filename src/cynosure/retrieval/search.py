"""Find the documented objects that a question is about. Knows nothing of where answers are shown."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import EmptyInput, InputError, InputTooLong
from cynosure.retrieval.protocols import Embedder
from cynosure.retrieval.rank import (
    CALIBRATION,
    WEIGHTS,
    Calibration,
    Weights,
    best_passages,
    fuse,
    prior_of,
    ranks,
)
from cynosure.retrieval.store import Store
from cynosure.retrieval.text import query_terms

MAX_QUESTION = 2000
MAX_RESULTS = 100


@dataclass(frozen=True)
class Hit:
    """An object that was found, with the passage that is closest to the question.

    Attributes:
        name: Qualified name.
        kind: `module`, `class`, `function`, `method` or `property`.
        signature: Parameter list in parentheses, or empty.
        module: Where it is found.
        aliases: Its other names.
        text: The passage, verbatim.
        start: First code point of the passage in the docstring, or in its file's text.
        end: One past the last.
        heading: What preceded the passage where it was embedded.
        score: What the order is by.
        bm25: What words say; 0 where no word of the question occurs.
        similarity: What vectors say: a cosine.
        bm25_rank: Its place by words alone, or `None` where none occurs.
        similarity_rank: Its place by vectors alone.
    """

    name: str
    kind: str
    signature: str
    module: str
    aliases: tuple[str, ...]
    text: str
    start: int
    end: int
    heading: str
    score: float
    bm25: float
    similarity: float
    bm25_rank: int | None
    similarity_rank: int


@dataclass(frozen=True)
class Found:
    """Hits, best first, one an object; `fits` says whether the first reaches the calibrated score."""

    hits: tuple[Hit, ...]
    fits: bool
    calibration: Calibration
    timings_ms: dict[str, float]


@dataclass(frozen=True, eq=False)
class Witnesses:
    """What words and vectors say of every entry, before they are fused."""

    bm25: Float32[np.ndarray, " entries"]
    similarity: Float32[np.ndarray, " entries"]
    passage: np.ndarray


def check_question(question: str, embedder: Embedder) -> None:
    """Refuse what can't be asked.

    Raises:
        EmptyInput: Nothing but white space.
        InputTooLong: Over `MAX_QUESTION` characters, or more tokens than the embedder reads.
        InputError: Lone surrogates, which are no text.
    """
    if not question.strip():
        raise EmptyInput("the question is empty. Ask something.")
    if len(question) > MAX_QUESTION:
        raise InputTooLong(
            f"the question has {len(question)} characters; the limit is {MAX_QUESTION}. Shorten it."
        )
    try:
        question.encode()
    except UnicodeEncodeError as fault:
        raise InputError(
            f"the question is no text: a lone surrogate at character {fault.start}. Send valid Unicode."
        ) from fault
    count = embedder.count_tokens(question)
    if count > embedder.max_tokens:
        raise InputTooLong(
            f"the question has {count} tokens; the limit of {embedder.model_id} is {embedder.max_tokens}. "
            "Shorten it."
        )


class DocsSearch:
    """Search over one index with the embedder that made it."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        weights: Weights = WEIGHTS,
        calibration: Calibration = CALIBRATION,
    ) -> None:
        """Take an opened index; nothing is read here."""
        self.store = store
        self._embedder = embedder
        self._weights = weights
        self._calibration = calibration
        self.prior = prior_of(store.contents.entries)
        self._owner = np.array([p.entry for p in store.contents.passages], dtype=np.int64).reshape(-1)

    def search(self, question: str, max_results: int = 8) -> Found:
        """The objects that the question is most likely about.

        Raises:
            EmptyInput: Nothing was asked.
            InputTooLong: The question is over `MAX_QUESTION` characters or the embedder's tokens.
            InputError: `max_results` is not within 1 and `MAX_RESULTS`, or the question is no text.
        """
        if not 1 <= max_results <= MAX_RESULTS:
            raise InputError(
                f"max_results is {max_results}; the limits are 1 and {MAX_RESULTS}. Choose one between."
            )
        check_question(question, self._embedder)
        begun = perf_counter()
        vector = self._embedder.embed([question])[0]
        embedded = perf_counter()
        seen = self.witnesses(question, vector)
        scores = fuse(seen.similarity, seen.bm25, self.prior, self._weights)
        order = np.argsort(-scores, kind="stable")[:max_results]
        places = ranks(seen.bm25), ranks(seen.similarity)
        hits = tuple(self._hit(int(place), seen, scores, places) for place in order)
        return Found(
            hits,
            fits=bool(hits) and hits[0].score >= self._calibration.threshold,
            calibration=self._calibration,
            timings_ms={"embed": 1e3 * (embedded - begun), "rank": 1e3 * (perf_counter() - embedded)},
        )

    def witnesses(self, question: str, vector: Float32[np.ndarray, " dim"]) -> Witnesses:
        """What words and vectors say of every entry."""
        contents = self.store.contents
        similarity, passage = best_passages(contents.vectors @ vector, self._owner, len(contents.entries))
        return Witnesses(self.store.bm25(query_terms(question)), similarity, passage)

    def _hit(
        self,
        place: int,
        seen: Witnesses,
        scores: Float32[np.ndarray, " entries"],
        places: tuple[np.ndarray, np.ndarray],
    ) -> Hit:
        entry = self.store.contents.entries[place]
        passage = self.store.contents.passages[seen.passage[place]]
        bm25 = float(seen.bm25[place])
        return Hit(
            name=entry.name,
            kind=entry.kind,
            signature=entry.signature,
            module=entry.module,
            aliases=entry.aliases,
            text=entry.doc[passage.start : passage.end],
            start=entry.start + passage.start,
            end=entry.start + passage.end,
            heading=passage.heading,
            score=float(scores[place]),
            bm25=bm25,
            similarity=float(seen.similarity[place]),
            bm25_rank=int(places[0][place]) if bm25 > 0 else None,
            similarity_rank=int(places[1][place]),
        )
