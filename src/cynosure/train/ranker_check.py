"""Measure a ranker on the questions that are held out, beside the embedder and words. Knows no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from cynosure.train.pairs import ABSENT, ASKED, Case, PairData

#: Logits of pairs: (question, text) in, a row each of (relevant, answers, no_answer) out.
Judge = Callable[[Sequence[tuple[str, str]]], Float[np.ndarray, "pairs labels"]]


@dataclass(frozen=True)
class RankerFigures:
    """What was found on held-out questions.

    Attributes:
        num_questions: Phrases whose object was held out.
        num_unanswerable: Questions without an answer that were held out.
        mrr: Mean reciprocal rank of the right passage among up to 30, by `relevant`.
        top1: How often it is the first.
        embedder_mrr: The same by the embedder's cosine alone.
        embedder_top1: How often it is the first by that.
        bm25_mrr: The same by BM25 alone.
        bm25_top1: How often it is the first by that.
        num_found: Phrases whose right passage the first stage found by itself; the other three are of these.
        found_mrr: As `mrr`.
        found_embedder_mrr: As `embedder_mrr`.
        found_bm25_mrr: As `bm25_mrr`.
        answer_top1: How often the sentence with the highest `answers` is a right one.
        answer_chance: How often one drawn at random is.
        abstention_auc: How often the lowest `no_answer` of an answerable question's passages is below that of
            an unanswerable one's.
        embedder_auc: The same by the highest cosine.
    """

    num_questions: int
    num_unanswerable: int
    mrr: float
    top1: float
    embedder_mrr: float
    embedder_top1: float
    bm25_mrr: float
    bm25_top1: float
    num_found: int
    found_mrr: float
    found_embedder_mrr: float
    found_bm25_mrr: float
    answer_top1: float
    answer_chance: float
    abstention_auc: float
    embedder_auc: float

    def told(self) -> dict[str, float]:
        """Return the figures by name, rounded for a file."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(data: PairData, judge: Judge, max_questions: int | None = None) -> RankerFigures:
    """Judge what is held out: at most so many questions of each kind."""
    held_out = [case for case in data.cases if case.is_held_out]
    asked = [case for case in held_out if case.kind == ASKED and not case.of_sentences][:max_questions]
    sentences = [case for case in held_out if case.of_sentences and case.right][:max_questions]
    without = [case for case in held_out if not case.right and not case.of_sentences][:max_questions]
    seen = [_judged(data, case, judge) for case in asked]
    unseen = [_judged(data, case, judge) for case in without]
    firsts = [_is_right_first(_judged(data, case, judge)[:, 1], len(case.right)) for case in sentences]
    ranks = [_rank(rows[:, 0]) for rows in seen]
    by_vectors = [_rank(np.array(case.similarity)) for case in asked]
    by_words = [_rank(np.array(case.bm25)) for case in asked]
    found = [place for place, case in enumerate(asked) if case.similarity[0] > ABSENT]
    return RankerFigures(
        num_questions=len(asked),
        num_unanswerable=len(without),
        mrr=_mean([1 / rank for rank in ranks]),
        top1=_mean([rank == 1 for rank in ranks]),
        embedder_mrr=_mean([1 / rank for rank in by_vectors]),
        embedder_top1=_mean([rank == 1 for rank in by_vectors]),
        bm25_mrr=_mean([1 / rank for rank in by_words]),
        bm25_top1=_mean([rank == 1 for rank in by_words]),
        num_found=len(found),
        found_mrr=_mean([1 / ranks[place] for place in found]),
        found_embedder_mrr=_mean([1 / by_vectors[place] for place in found]),
        found_bm25_mrr=_mean([1 / by_words[place] for place in found]),
        answer_top1=_mean(firsts),
        answer_chance=_mean([len(case.right) / (len(case.right) + len(case.wrong)) for case in sentences]),
        abstention_auc=auc([-rows[:, 2].min() for rows in seen], [-rows[:, 2].min() for rows in unseen]),
        embedder_auc=auc(
            [max(case.similarity) for case in asked], [max(case.similarity) for case in without]
        ),
    )


def auc(above: Sequence[float], below: Sequence[float]) -> float:
    """Return how often a value of the first is above one of the second; a tie counts half."""
    differences = np.subtract.outer(np.array(above, dtype=np.float64), np.array(below, dtype=np.float64))
    return float((np.sign(differences) + 1).mean() / 2) if differences.size else 0.0


def _judged(data: PairData, case: Case, judge: Judge) -> Float[np.ndarray, "texts labels"]:
    texts = [data.texts[place] for place in (*case.right, *case.wrong)]
    return judge([(case.question, text) for text in texts])


def _rank(scores: Float[np.ndarray, " texts"]) -> int:
    """The rank of the first text; of equal ones it is the last."""
    return int((scores >= scores[0]).sum())


def _is_right_first(scores: Float[np.ndarray, " texts"], num_right: int) -> bool:
    """Whether one of the first texts, which are right, is above all others."""
    return bool(scores[:num_right].max() > scores[num_right:].max())


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
