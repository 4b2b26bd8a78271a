"""Decide whether what was found answers at all. Reads no text: it sees what models and words say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.retrieval.search import LABELS, Hit
from cynosure.retrieval.store import Store
from cynosure.retrieval.text import query_terms

#: A word of so many objects is not rare.
MAX_COUNTED = 400

#: Beyond this a logistic function is 0 or 1 in float64.
_MAX_LOGIT = 700.0


@dataclass(frozen=True)
class Signs:
    """What speaks for an answer, of one question.

    Attributes:
        relevant: The highest `relevant` of the objects that would be quoted.
        answers: The highest `answers` of their sentences and signatures.
        no_answer: The `no_answer` of the object that comes first.
        similarity: The highest cosine of question and passage.
        fused: The highest score of the search without the ranker.
        rarity: How rare the question's words are in the documentation, from 0 to 1: the mean of
            1 / sqrt(1 + objects that have the word).
    """

    relevant: float
    answers: float
    no_answer: float
    similarity: float
    fused: float
    rarity: float


@dataclass(frozen=True)
class Gate:
    """A logistic function of `Signs`: how likely it is that the documentation has an answer.

    `evals/answers_fit.py` prints it, fitted on development questions and on phrases of objects that the
    ranker never learned from.
    """

    relevant: float
    answers: float
    no_answer: float
    similarity: float
    fused: float
    rarity: float
    bias: float

    def chance(self, signs: Signs) -> float:
        """From 0 to 1; `LINE` is where it is as likely as not."""
        logit = self.bias + sum(vars(self)[name] * value for name, value in vars(signs).items())
        return 1.0 / (1.0 + math.exp(-max(-_MAX_LOGIT, min(logit, _MAX_LOGIT))))


#: Fitted without the ranker, whose logits compare texts of one question: they told less, and this holds
#: whatever the ranker.
GATE = Gate(
    relevant=0.0, answers=0.0, no_answer=0.0, similarity=3.069, fused=0.45, rarity=-8.349, bias=-4.704
)

#: For one's own files: in few files every word is rare, and no score was fitted on them. A rule: a cosine
#: of 0.4.
FILE_GATE = Gate(relevant=0.0, answers=0.0, no_answer=0.0, similarity=12.0, fused=0.0, rarity=0.0, bias=-4.8)


def rarity_of(question: str, store: Store) -> float:
    """How rare a question's words are in an index: what it has not heard of, it hardly answers."""
    counts = store.num_objects_with(query_terms(question), MAX_COUNTED)
    return sum(1 / math.sqrt(1 + count) for count in counts) / max(len(counts), 1)


def signs_of(hits: Sequence[Hit], answers: float, rarity: float) -> Signs:
    """The signs of objects that the ranker read.

    Args:
        hits: The objects, best first.
        answers: The highest logit of their parts and signatures.
        rarity: Of the question's words.
    """
    relevant, no_answer = LABELS.index("relevant"), LABELS.index("no_answer")
    return Signs(
        relevant=max(hit.logits[relevant] for hit in hits),
        answers=answers,
        no_answer=hits[0].logits[no_answer],
        similarity=max(hit.similarity for hit in hits),
        fused=max(hit.fused for hit in hits),
        rarity=rarity,
    )
