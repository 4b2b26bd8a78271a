"""Find the documented objects that a question is about. Knows nothing of where answers are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Float32, Int64

from cynosure.core.errors import EmptyInput, InputError, InputTooLong, UnsupportedConfig
from cynosure.retrieval.documents import Entry, object_places
from cynosure.retrieval.protocols import Embedder, Ranker
from cynosure.retrieval.rank import (
    CALIBRATION,
    RANKED_CALIBRATION,
    RANKING,
    WEIGHTS,
    Calibration,
    Ranking,
    Weights,
    Witnesses,
    best_passages,
    fuse,
    prior_of,
    ranks,
    rerank,
)
from cynosure.retrieval.store import Store
from cynosure.retrieval.text import mentions, query_terms

MAX_QUESTION = 2000
MAX_RESULTS = 100

#: What a ranker must say of a pair, in the order of `Hit.logits`.
LABELS = ("relevant", "answers", "no_answer")


@dataclass(frozen=True)
class Hit:
    """An object that was found, with the passage that is closest to the question.

    Attributes:
        name: Qualified name.
        kind: `module`, `class`, `function`, `method`, `property` or `data`.
        signature: Parameter list in parentheses, or empty.
        module: Where it is found.
        aliases: Its other names.
        text: The passage, verbatim.
        start: First code point of the passage in the text of its source, or in its file's text.
        end: One past the last.
        source: What the offsets count in: the object's `docstring`, or its text in the `reference`.
        heading: What preceded the passage where it was embedded.
        place: Position of the entry that the passage is of.
        score: What the order is by.
        fused: The score without the ranker.
        logits: What the ranker says, by `LABELS`; empty where it did not read the passage.
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
    source: str
    heading: str
    place: int
    score: float
    fused: float
    logits: tuple[float, ...]
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
class _Scored:
    """Every object's scores, and what the ranker said of some."""

    seen: Witnesses
    fused: Float32[np.ndarray, " entries"]
    final: Float32[np.ndarray, " entries"]
    logits: dict[int, tuple[float, ...]]


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
    """Search over one index with the embedder that made it, and with a ranker where there is one."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        weights: Weights = WEIGHTS,
        calibration: Calibration | None = None,
        ranker: Ranker | None = None,
        ranking: Ranking = RANKING,
    ) -> None:
        """Take an opened index; nothing is read here.

        Args:
            store: The index.
            embedder: The one that made it.
            weights: How much each feature counts in the fused score.
            calibration: Where nothing fits; `None` takes the one for the Python documentation.
            ranker: Reads the best objects' passages and changes their order.
            ranking: How much the ranker counts.

        Raises:
            UnsupportedConfig: The ranker has other labels than `LABELS`, or reads too little.
        """
        self.store = store
        self._embedder = embedder
        self._ranker = ranker
        self._weights = weights
        self._ranking = ranking
        self.calibration = calibration or (CALIBRATION if ranker is None else RANKED_CALIBRATION)
        if ranker is not None:
            _check_ranker(ranker, embedder)
        contents = store.contents
        entries, passages = contents.entries, contents.passages
        self.prior = prior_of(entries)
        self.num_objects = int(self.prior.is_object.sum())
        places = object_places(entries)
        self._owner = places[np.array([p.entry for p in passages], dtype=np.int64).reshape(-1)]
        self._named = _names(entries, places)
        self._asked = np.array([phrase.entry for phrase in contents.phrases], dtype=np.int64).reshape(-1)

    def search(self, question: str, max_results: int = 8) -> Found:
        """The objects that the question is most likely about.

        A fault of the ranker is the question's fault: the order without it is never given in its place.

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
        fused = fuse(seen, self.prior, self._weights)
        taken = {"embed": 1e3 * (embedded - begun), "rank": 1e3 * (perf_counter() - embedded)}
        scored = _Scored(seen, fused, fused, {})
        if self._ranker is not None:
            fused_at = perf_counter()
            scored = self._reranked(question, scored, self._ranker)
            taken["rerank"] = 1e3 * (perf_counter() - fused_at)
        places = ranks(seen.bm25), ranks(seen.similarity)
        hits = tuple(self._hit(int(n), scored, places) for n in self._best(scored.final, max_results))
        fits = bool(hits) and hits[0].score >= self.calibration.threshold
        return Found(hits, fits, self.calibration, taken)

    def witnesses(self, question: str, vector: Float32[np.ndarray, " dim"]) -> Witnesses:
        """What words and vectors say of every object."""
        contents, count = self.store.contents, len(self.store.contents.entries)
        terms = query_terms(question)
        similarity, passage = best_passages(contents.vectors @ vector, self._owner, count)
        asked = similarity
        if contents.phrases and contents.phrase_vectors is not None:
            closest, _ = best_passages(contents.phrase_vectors @ vector, self._asked, count)
            asked = np.where(closest > -np.inf, closest, similarity)
        return Witnesses(
            bm25=self.store.bm25(terms),
            asked_bm25=self.store.asked_bm25(terms),
            similarity=similarity,
            asked=asked,
            named=self._mentioned(question),
            passage=passage,
        )

    def _mentioned(self, question: str) -> Float32[np.ndarray, " entries"]:
        named = np.zeros(len(self.store.contents.entries), dtype=np.float32)
        for name in mentions(question):
            named[self._named.get(name, [])] = 1
        return named

    def passage_text(self, passage: int) -> str:
        """The text of a passage as the embedder and the ranker read it."""
        found = self.store.contents.passages[passage]
        return found.text(self.store.contents.entries[found.entry].doc)

    def judged(
        self, question: str, read: Sequence[int], seen: Witnesses, ranker: Ranker
    ) -> Float32[np.ndarray, "candidates 3"]:
        """What the ranker says of each object's closest passage, by `LABELS`."""
        texts = [self.passage_text(int(seen.passage[place])) for place in read]
        columns = [ranker.labels.index(label) for label in LABELS]
        return ranker.score(question, texts)[:, columns]

    def _best(self, scores: Float32[np.ndarray, " entries"], count: int) -> Int64[np.ndarray, " some"]:
        return np.argsort(-scores, kind="stable")[: min(count, self.num_objects)]

    def _reranked(self, question: str, scored: _Scored, ranker: Ranker) -> _Scored:
        read = self._best(scored.fused, self._ranking.depth)
        if not len(read):
            return scored
        logits = self.judged(question, read.tolist(), scored.seen, ranker)
        said = {int(place): tuple(row) for place, row in zip(read, logits.tolist(), strict=True)}
        final = rerank(scored.fused, read, logits, self._ranking)
        return _Scored(scored.seen, scored.fused, final, said)

    def _hit(self, place: int, scored: _Scored, places: tuple[np.ndarray, np.ndarray]) -> Hit:
        contents, seen = self.store.contents, scored.seen
        entry = contents.entries[place]
        passage = contents.passages[seen.passage[place]]
        text = contents.entries[passage.entry]
        bm25 = float(seen.bm25[place])
        return Hit(
            name=entry.name,
            kind=entry.kind,
            # The reference tells the parameters of what C code leaves untold.
            signature=entry.signature or text.signature,
            module=entry.module,
            aliases=entry.aliases,
            text=text.doc[passage.start : passage.end],
            start=text.start + passage.start,
            end=text.start + passage.end,
            source=text.source,
            heading=passage.heading,
            place=passage.entry,
            score=float(scored.final[place]),
            fused=float(scored.fused[place]),
            logits=scored.logits.get(place, ()),
            bm25=bm25,
            similarity=float(seen.similarity[place]),
            bm25_rank=int(places[0][place]) if bm25 > 0 else None,
            similarity_rank=int(places[1][place]),
        )


def _names(entries: Sequence[Entry], places: Int64[np.ndarray, " entries"]) -> dict[str, list[int]]:
    """Whom each name means: a whole one, or the end of one that still has a dot, such as `Path.mkdir`."""
    named: dict[str, list[int]] = {}
    for place in np.flatnonzero(places == np.arange(len(entries))).tolist():
        for name in (entries[place].name, *entries[place].aliases):
            parts = name.split(".")
            ends = {name, *(".".join(parts[start:]) for start in range(1, len(parts) - 1))}
            for end in ends:
                named.setdefault(end, []).append(place)
    return named


def _check_ranker(ranker: Ranker, embedder: Embedder) -> None:
    if sorted(ranker.labels) != sorted(LABELS):
        raise UnsupportedConfig(
            f"{ranker.model_id} judges {', '.join(ranker.labels)}; the search needs {', '.join(LABELS)}. "
            "Take a ranker with these labels, or none."
        )
    # A question and a passage as long as the embedder reads; the special tokens between them are shared.
    needed = 2 * embedder.max_tokens - 1
    if ranker.max_tokens < needed:
        raise UnsupportedConfig(
            f"{ranker.model_id} reads {ranker.max_tokens} tokens; a question and a passage of "
            f"{embedder.model_id} have up to {needed}. Take a ranker that reads more, or none."
        )
