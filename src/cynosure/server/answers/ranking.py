"""Say how well passages fit a query, by whichever kind of model is named. Knows no protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cynosure.core.errors import EngineFault, NotFound, UnknownOption
from cynosure.server.services import EmbeddingModel, RankingModel, ScoreKind, Scores, Services

#: Texts that are asked for at once, so that other requests come in between.
_SLICE = 64

#: The label whose number is what passages are ordered by, where a model has several.
RELEVANT = "relevant"


@dataclass(frozen=True)
class Relevance:
    """A score a pair, in their order, and the tokens that were read for all of them."""

    scores: tuple[float, ...]
    num_tokens: int


async def relevance(services: Services, name: str, pairs: Sequence[tuple[str, str]]) -> Relevance:
    """How well the second text of each pair fits the first.

    A cross-encoder reads both together, and says it in the words of its head (a chance from 0 to 1, unless
    the checkpoint declares otherwise); of an embedder it is the cosine of the two vectors.

    Raises:
        NotFound: no such model.
        UnknownOption: the model gives several numbers, which no order is by.
        EmptyInput, InputTooLong: a text can't be read.
    """
    ranker, embedder = services.rankers.get(name), services.embedders.get(name)
    if ranker is not None:
        return await _by_ranker(ranker, pairs)
    if embedder is not None:
        return await _by_embedder(embedder, pairs)
    known = ", ".join(sorted([*services.rankers, *services.embedders])) or "none"
    raise NotFound(
        f"no model that ranks is called {name[:100]!r}; here: {known}. Correct the name: /v1/models lists "
        "them."
    )


def values(kind: ScoreKind, found: Scores) -> Float[np.ndarray, "n labels"]:
    """What the logits mean, in float64.

    Raises:
        EngineFault: one is not finite; JSON could not say it.
    """
    logits = found.logits.astype(np.float64)
    if not np.isfinite(logits).all():
        raise EngineFault("the model gave a score that is not finite. Report it with the texts.")
    if kind is ScoreKind.NUMBERS:
        return logits
    if kind is ScoreKind.CHANCES:
        return np.exp(-np.logaddexp(0.0, -logits))
    return np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


async def _by_ranker(model: RankingModel, pairs: Sequence[tuple[str, str]]) -> Relevance:
    if len(model.labels) == 1:
        place = 0
    elif RELEVANT in model.labels:
        place = model.labels.index(RELEVANT)
    else:
        raise UnknownOption(
            f"{model.name} gives {len(model.labels)} numbers a pair ({', '.join(model.labels)[:200]}), and "
            "an order needs one. Name a cross-encoder or an embedder, or ask /v1/decisions."
        )
    found = await model.score(pairs)
    return Relevance(tuple(values(model.kind, found)[:, place].tolist()), sum(found.token_counts))


async def _by_embedder(model: EmbeddingModel, pairs: Sequence[tuple[str, str]]) -> Relevance:
    # A query that stands in many pairs is read once.
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    vectors: dict[str, Float[np.ndarray, " dim"]] = {}
    num_tokens = 0
    for start in range(0, len(texts), _SLICE):
        some = texts[start : start + _SLICE]
        found = await model.embed(some)
        vectors |= zip(some, found.vectors.astype(np.float64), strict=True)
        num_tokens += sum(found.token_counts)
    scores = tuple(float(vectors[first] @ vectors[second]) for first, second in pairs)
    if not np.isfinite(scores).all():
        raise EngineFault("the model gave a vector that is not finite. Report it with the texts.")
    return Relevance(scores, num_tokens)
