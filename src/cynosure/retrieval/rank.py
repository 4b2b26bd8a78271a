"""Fuse what words, vectors and a ranker say of a question into one order. Knows nothing of storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cynosure.retrieval.documents import Entry, object_places

MAX_COUNTED_LENGTH = 600

#: Where a chance says as much for a passage as against it.
LINE = 0.5


@dataclass(frozen=True)
class Weights:
    """How much each feature counts: fitted on `evals/data/docs_questions_dev.jsonl` alone.

    `evals/docs_search_fit.py` prints them: a softmax over each question's candidates, cross-validated.

    Attributes:
        similarity: Cosine of the question and the object's closest passage.
        module: Cosine of the question and the closest passage of the object's module.
        asked: Cosine of the question and the closest phrase in which people ask for the object; where there
            is no phrase, that of the closest passage again.
        bm25: Okapi BM25 over name, signature, summary, texts and the parent's summary.
        asked_bm25: Okapi BM25 over the phrases.
        named: Whether the question names the object. A rule, and not fitted: those questions name none.
        length: log(1 + characters of docstring), up to `MAX_COUNTED_LENGTH`: what is used much is
            documented at length.
        depth: Dots in the name: what is used much lies near the surface.
        deprecated: Whether the module warns of its own removal.
    """

    similarity: float = 0.0
    module: float = 0.0
    asked: float = 0.0
    bm25: float = 0.0
    asked_bm25: float = 0.0
    named: float = 0.0
    length: float = 0.0
    depth: float = 0.0
    deprecated: float = 0.0


@dataclass(frozen=True)
class Ranking:
    """How much a ranker's logits count beside the fused score: fitted by `evals/docs_search_fit_ranker.py`.

    Attributes:
        depth: How many of the best objects it reads.
        fused: Weight of the fused score.
        relevant: Of the logit that the passage is about what is asked.
        answers: Of the logit that it says the answer.
        no_answer: Of the logit that it does not.
    """

    depth: int = 24
    fused: float = 1.0
    relevant: float = 1.0
    answers: float = 0.0
    no_answer: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """Below which score of the first hit nothing fits, and how that was found."""

    threshold: float
    method: str

    def chance(self, score: float) -> float:
        """A score from 0 to 1 in the same order, which is `LINE` where the threshold lies.

        Weights are fitted by a softmax, so that scores are log-odds: this is the chance of a passage against
        one rival that stands for "nothing fits".
        """
        return 1.0 / (1.0 + math.exp(min(self.threshold - score, 700.0)))


WEIGHTS = Weights(
    similarity=5.0,
    module=2.85,
    asked=7.0,
    bm25=0.076,
    asked_bm25=0.197,
    named=6.0,
    length=0.26,
    depth=-0.2,
    deprecated=-0.71,
)
CALIBRATION = Calibration(
    threshold=10.1,
    method=(
        "the score that a twentieth of 60 development questions with an answer falls short of, and 27 of 30 "
        "without one (python -m evals.docs_search_fit)"
    ),
)
RANKING = Ranking(depth=24, fused=0.94, relevant=0.47)
RANKED_CALIBRATION = Calibration(
    threshold=9.06,
    method=(
        "the score that a twentieth of 60 development questions with an answer falls short of, and 27 of 30 "
        "without one (python -m evals.docs_search_fit_ranker)"
    ),
)


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of each object before anything is asked; a further text of one is no object."""

    length: Float32[np.ndarray, " entries"]
    depth: Float32[np.ndarray, " entries"]
    deprecated: Float32[np.ndarray, " entries"]
    is_object: Bool[np.ndarray, " entries"]
    module: Int64[np.ndarray, " entries"]
    has_module: Int64[np.ndarray, " some"]


@dataclass(frozen=True, eq=False)
class Witnesses:
    """What words and vectors say of every object, before they are fused, and its closest passage."""

    bm25: Float32[np.ndarray, " entries"]
    asked_bm25: Float32[np.ndarray, " entries"]
    similarity: Float32[np.ndarray, " entries"]
    asked: Float32[np.ndarray, " entries"]
    named: Float32[np.ndarray, " entries"]
    passage: Int64[np.ndarray, " entries"]


def prior_of(entries: Sequence[Entry]) -> Prior:
    """Take the prior from the entries; `module` is the position of an entry's module, where it has one."""
    places = object_places(entries)
    modules: dict[str, int] = {}
    for place, entry in enumerate(entries):
        if entry.kind == "module":
            modules.setdefault(entry.name, place)
    homes = np.array([modules.get(entry.module, -1) for entry in entries], dtype=np.int64).reshape(-1)
    lengths = np.array([min(len(entry.doc), MAX_COUNTED_LENGTH) for entry in entries], dtype=np.float32)
    return Prior(
        length=np.log1p(lengths),
        depth=np.array([entry.name.count(".") for entry in entries], dtype=np.float32),
        deprecated=np.array([entry.deprecated for entry in entries], dtype=np.float32),
        is_object=places == np.arange(len(entries)),
        module=np.maximum(homes, 0),
        has_module=np.flatnonzero(homes >= 0),
    )


def best_passages(
    similarity: Float32[np.ndarray, " passages"], owner: Int64[np.ndarray, " passages"], num_entries: int
) -> tuple[Float32[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]:
    """The highest similarity of each entry's passages, and which passage has it.

    Args:
        similarity: By passage.
        owner: Entry of each passage.
        num_entries: Those without a passage get -inf and 0.
    """
    best = np.full(num_entries, -np.inf, dtype=np.float32)
    np.maximum.at(best, owner, similarity)
    which = np.zeros(num_entries, dtype=np.int64)
    # Written in reverse, so that the first of equal passages stays: the summary.
    winners = np.flatnonzero(similarity == best[owner])[::-1]
    which[owner[winners]] = winners
    return best, which


def features(seen: Witnesses, prior: Prior) -> dict[str, Float32[np.ndarray, " entries"]]:
    """One value an entry for each of `Weights`' fields."""
    objects = seen.similarity[prior.is_object]
    module = np.full_like(seen.similarity, objects.mean() if len(objects) else 0.0)
    module[prior.has_module] = seen.similarity[prior.module[prior.has_module]]
    return {
        "similarity": seen.similarity,
        "module": module,
        "asked": seen.asked,
        "bm25": seen.bm25,
        "asked_bm25": seen.asked_bm25,
        "named": seen.named,
        "length": prior.length,
        "depth": prior.depth,
        "deprecated": prior.deprecated,
    }


def fuse(seen: Witnesses, prior: Prior, weights: Weights = WEIGHTS) -> Float32[np.ndarray, " entries"]:
    """Score each object: the weighted sum of its features; -inf for what is none."""
    scores = np.zeros_like(seen.similarity)
    for name, values in features(seen, prior).items():
        weight = np.float32(vars(weights)[name])
        if weight:
            scores += weight * values
    scores[~prior.is_object] = -np.inf
    return scores


def rerank(
    scores: Float32[np.ndarray, " entries"],
    read: Int64[np.ndarray, " candidates"],
    logits: Float32[np.ndarray, "candidates 3"],
    ranking: Ranking = RANKING,
) -> Float32[np.ndarray, " entries"]:
    """Scores with what a ranker says; those that it did not read stay below, in their order.

    Args:
        scores: The fused score of every entry.
        read: The entries that the ranker read: the best by `scores`.
        logits: Of each: relevant, answers, no answer.
        ranking: How much each counts.
    """
    if not len(read):
        return scores
    weights = np.array([ranking.relevant, ranking.answers, ranking.no_answer], dtype=np.float32)
    mixed = np.float32(ranking.fused) * scores[read] + logits @ weights
    # What was not read keeps its distance to the worst that was.
    ranked = scores - scores[read].min() + mixed.min()
    ranked[read] = mixed
    return ranked


def ranks(scores: Float32[np.ndarray, " entries"]) -> Int64[np.ndarray, " entries"]:
    """The place of each entry, 1 being the best; equal scores keep their order."""
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return places
