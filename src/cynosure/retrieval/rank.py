"""Fuse what words and vectors say of a question into one order. Knows nothing of storage or models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from cynosure.retrieval.documents import Entry

MAX_COUNTED_LENGTH = 600


@dataclass(frozen=True)
class Weights:
    """How much each witness counts: fitted on `evals/data/docs_questions_dev.jsonl` alone.

    `evals/docs_search_fit.py` prints them: a softmax over each question's candidates, cross-validated.

    Attributes:
        similarity: Cosine of the question and the object's closest passage.
        module: Cosine of the question and the closest passage of the object's module.
        bm25: Okapi BM25 over name, signature, summary, docstring and the parent's summary.
        length: log(1 + characters of docstring), up to `MAX_COUNTED_LENGTH`: what is used much is
            documented at length.
        depth: Dots in the name: what is used much lies near the surface.
        deprecated: Whether the module warns of its own removal.
    """

    similarity: float = 15.0
    module: float = 3.9
    bm25: float = 0.041
    length: float = 0.68
    depth: float = -0.525
    deprecated: float = -0.98


@dataclass(frozen=True)
class Calibration:
    """Below which score of the first hit nothing fits, and how that was found."""

    threshold: float
    method: str


WEIGHTS = Weights()
CALIBRATION = Calibration(
    threshold=11.15,
    method=(
        "the score that a tenth of 60 development questions with an answer falls short of, and 25 of 30 "
        "without one (python -m evals.docs_search_fit)"
    ),
)


@dataclass(frozen=True, eq=False)
class Prior:
    """What is known of each object before anything is asked."""

    length: Float32[np.ndarray, " entries"]
    depth: Float32[np.ndarray, " entries"]
    deprecated: Float32[np.ndarray, " entries"]
    module: Int64[np.ndarray, " entries"]
    has_module: Int64[np.ndarray, " some"]


def prior_of(entries: Sequence[Entry]) -> Prior:
    """Take the prior from the entries; `module` is the position of an entry's module, where it has one."""
    modules = {entry.name: place for place, entry in enumerate(entries) if entry.kind == "module"}
    homes = np.array([modules.get(entry.module, -1) for entry in entries], dtype=np.int64).reshape(-1)
    lengths = np.array([min(len(entry.doc), MAX_COUNTED_LENGTH) for entry in entries], dtype=np.float32)
    return Prior(
        length=np.log1p(lengths),
        depth=np.array([entry.name.count(".") for entry in entries], dtype=np.float32),
        deprecated=np.array([entry.deprecated for entry in entries], dtype=np.float32),
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
        num_entries: Each has at least one passage.
    """
    best = np.full(num_entries, -np.inf, dtype=np.float32)
    np.maximum.at(best, owner, similarity)
    which = np.zeros(num_entries, dtype=np.int64)
    # Written in reverse, so that the first of equal passages stays: the summary.
    winners = np.flatnonzero(similarity == best[owner])[::-1]
    which[owner[winners]] = winners
    return best, which


def features(
    similarity: Float32[np.ndarray, " entries"], bm25: Float32[np.ndarray, " entries"], prior: Prior
) -> dict[str, Float32[np.ndarray, " entries"]]:
    """One value an entry for each of `Weights`' fields."""
    module = np.full_like(similarity, similarity.mean() if len(similarity) else 0.0)
    module[prior.has_module] = similarity[prior.module[prior.has_module]]
    return {
        "similarity": similarity,
        "module": module,
        "bm25": bm25,
        "length": prior.length,
        "depth": prior.depth,
        "deprecated": prior.deprecated,
    }


def fuse(
    similarity: Float32[np.ndarray, " entries"],
    bm25: Float32[np.ndarray, " entries"],
    prior: Prior,
    weights: Weights = WEIGHTS,
) -> Float32[np.ndarray, " entries"]:
    """Score each entry: the weighted sum of its features."""
    found = features(similarity, bm25, prior)
    scores = np.zeros_like(similarity)
    for name, values in found.items():
        scores += np.float32(vars(weights)[name]) * values
    return scores


def ranks(scores: Float32[np.ndarray, " entries"]) -> Int64[np.ndarray, " entries"]:
    """The place of each entry, 1 being the best; equal scores keep their order."""
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return places
