"""Learn which heads tell what an answer was drawn from, by taking sources away. Knows no tensors.

In the manner of AT2 (arXiv 2504.13752): the score of a source is a weighted sum of the attention that heads
gave it while a sentence was written. The weights are those whose scores best foretell how the sentence's
log-probability moves where random sources are denied. What they cost is paid once, when a profile is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cynosure.insight.probing import Head, ProbedModel

#: A sentence whose log-probability moves by less, in nats, counts as if it moved by so much.
_LEAST_SPREAD = 0.5
#: How likely a source is left.
_KEPT_SHARE = 0.5


@dataclass(frozen=True)
class AttributedAnswer:
    """A prompt with an answer, and what the answer may have been drawn from.

    - `token_ids`: prompt and answer; `first`: where the answer begins.
    - `sentences`: of the answer, as tokens `start <= token < end` of all.
    - `sources`: runs of the prompt, sorted and apart.
    """

    token_ids: tuple[int, ...]
    first: int
    sentences: tuple[tuple[int, int], ...]
    sources: tuple[tuple[int, int], ...]

    @property
    def segments(self) -> list[int]:
        """The source of each token; all that is none is the segment behind the last."""
        owners = [len(self.sources)] * len(self.token_ids)
        for number, (start, end) in enumerate(self.sources):
            owners[start:end] = [number] * (end - start)
        return owners


@dataclass(frozen=True, eq=False)
class SentenceAblations:
    """What was seen of one sentence.

    - `shares`: what each head gave each source, added up over the sentence's tokens.
    - `kept`: which sources were left, an ablation a row; `log_probs`: of the sentence, in nats.
    """

    shares: Float[np.ndarray, "heads sources"]
    kept: Bool[np.ndarray, "ablations sources"]
    log_probs: Float[np.ndarray, " ablations"]


@dataclass(frozen=True, eq=False)
class SourceEffects:
    """How many nats a sentence loses without each source alone, and what each head gave the sources."""

    shares: Float[np.ndarray, "heads sources"]
    drops: Float[np.ndarray, " sources"]


def ablate_at_random(
    model: ProbedModel, answer: AttributedAnswer, num_ablations: int, dice: np.random.Generator
) -> Iterator[SentenceAblations]:
    """Deny random halves of the sources, and see how likely each sentence is then."""
    kept = dice.random((num_ablations, len(answer.sources))) < _KEPT_SHARE
    rows = [_log_probs_without(model, answer, ~row) for row in kept]
    for shares, place in zip(_shares(model, answer), range(len(answer.sentences)), strict=True):
        yield SentenceAblations(shares, kept, np.array([row[place] for row in rows]))


def ablate_one_by_one(model: ProbedModel, answer: AttributedAnswer) -> Iterator[SourceEffects]:
    """Deny each source alone, and see what each sentence loses."""
    whole = _log_probs_without(model, answer, np.zeros(len(answer.sources), bool))
    without = [_log_probs_without(model, answer, row) for row in np.eye(len(answer.sources), dtype=bool)]
    for place, shares in enumerate(_shares(model, answer)):
        yield SourceEffects(shares, np.array([whole[place] - row[place] for row in without]))


def _log_probs_without(
    model: ProbedModel, answer: AttributedAnswer, denied: Bool[np.ndarray, " sources"]
) -> list[float]:
    """How likely each sentence is where sources are denied."""
    runs = [run for run, is_denied in zip(answer.sources, denied, strict=True) if is_denied]
    told = model.log_probs(answer.token_ids, answer.first, denied=runs)
    return [float(told[start - answer.first : end - answer.first].sum()) for start, end in answer.sentences]


def _shares(model: ProbedModel, answer: AttributedAnswer) -> list[Float[np.ndarray, "heads sources"]]:
    """By sentence, what each head gave each source while its tokens were chosen."""
    # The query before a token chooses it.
    rows = [token - 1 for start, end in answer.sentences for token in range(start, end)]
    told = model.shares(answer.token_ids, rows, answer.segments)[..., : len(answer.sources)]
    lengths = [end - start for start, end in answer.sentences]
    by_sentence = np.split(told, np.cumsum(lengths)[:-1])
    return [one.sum(axis=0).astype(float) for one in by_sentence]


def fit_head_weights(
    seen: Sequence[SentenceAblations], *, max_heads: int, ridge: float = 1e-2
) -> Float[np.ndarray, " heads"]:
    """Weights of all heads, all but `max_heads` of them 0, that foretell what ablations do.

    Of each sentence, scores and log-probabilities are centred and divided by the spread of the latter, so
    that sentences that move much and those that move little count alike. What is left is a ridge regression;
    the heads that carry most are kept, and fitted again alone. A weight is in nats a share of attention.
    """
    pairs = [_centred(one) for one in seen]
    x = np.concatenate([scores for scores, _ in pairs])
    y = np.concatenate([effects for _, effects in pairs])
    scale = x.std(axis=0)
    scale[scale == 0] = 1.0
    x = x / scale
    fitted = _ridge(x, y, ridge)
    best = np.sort(np.argsort(-np.abs(fitted), kind="stable")[:max_heads])
    weights = np.zeros(x.shape[1])
    weights[best] = _ridge(x[:, best], y, ridge) / scale[best]
    return weights


def _centred(
    one: SentenceAblations,
) -> tuple[Float[np.ndarray, "ablations heads"], Float[np.ndarray, " ablations"]]:
    """By ablation, what each head gave the sources that were left, and how far the log-probability moved."""
    left = one.kept.astype(float) @ one.shares.T
    effects = one.log_probs - one.log_probs.mean()
    spread = max(float(effects.std()), _LEAST_SPREAD)
    return (left - left.mean(axis=0)) / spread, effects / spread


def _ridge(
    x: Float[np.ndarray, "rows heads"], y: Float[np.ndarray, " rows"], ridge: float
) -> Float[np.ndarray, " heads"]:
    """Least squares, held back by `ridge` of the mean square of a column."""
    gram = x.T @ x
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, x.T @ y)


def heads_in_order(num_heads: Iterable[int]) -> list[Head]:
    """All heads as a probe tells of them."""
    return [(layer, head) for layer, count in enumerate(num_heads) for head in range(count)]
