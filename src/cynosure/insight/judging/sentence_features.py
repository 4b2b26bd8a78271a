"""Say in a few numbers how a sentence was attended to while it was written. Knows no model and no answer.

They are read off two folds of the heads' shares: one whose weights were fitted (`risk`), and the mean over
the heads that retrieve. So the engine tells all that is needed, whatever else of the model is watched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cynosure.insight.prompt_segments import PromptSegments

#: Parts that an answer can stand on: text that a caller gave to be read.
GIVEN_ROLES = ("document", "tool")

#: Of the fitted fold, averages over a sentence's tokens: what went to documents, the most that a token gave
#: them, and what went to the answer before.
FITTED = ("lookback", "lookback_peak", "generated")
#: Of the heads that retrieve: of how many tokens a document was the part attended to most, the most that a
#: token gave one document, and how evenly documents share what they got, from 0 to 1.
RETRIEVED = ("hits", "hit_peak", "spread")

#: Indices of the parts that one document is cut into.
DocumentParts = tuple[int, ...]
Fold = Float[np.ndarray, "tokens parts"]


def given_documents(segments: PromptSegments) -> tuple[DocumentParts, ...]:
    """The documents of a prompt that an answer can stand on, each with its parts that have tokens.

    What has one name is one document: its title and text, or its sentences where they are told apart.
    """
    found: dict[str, list[int]] = {}
    for index, (part, count) in enumerate(zip(segments.parts, segments.num_tokens, strict=True)):
        if part.role in GIVEN_ROLES and count:
            found.setdefault(part.name, []).append(index)
    return tuple(map(tuple, found.values()))


def sentence_features(
    documents: Sequence[DocumentParts], fitted: Fold, retrieved: Fold | None
) -> Float[np.ndarray, " features"]:
    """The numbers of `FITTED`, and those of `RETRIEVED` where heads are known that retrieve.

    Args:
        documents: What was given, at least one.
        fitted: A row a token of the sentence: what each part of the prompt had under fitted weights, and last
            what was generated before.
        retrieved: The same, of the mean over heads that retrieve.
    """
    assert documents, "nothing was given"
    lookback = _by_document(documents, fitted).sum(axis=1)
    numbers = [lookback.mean(), lookback.max(), fitted[:, -1].mean()]
    if retrieved is not None:
        shares = _by_document(documents, retrieved)
        own = {index for parts in documents for index in parts}
        others = [index for index in range(retrieved.shape[1]) if index not in own]
        hits = shares.max(axis=1) > retrieved[:, others].max(axis=1)
        numbers += [hits.mean(), shares.max(), _spread(shares.mean(axis=0))]
    return np.array(numbers, float)


def _by_document(documents: Sequence[DocumentParts], fold: Fold) -> Float[np.ndarray, "tokens documents"]:
    return np.stack([fold[:, list(parts)].sum(axis=1) for parts in documents], axis=1)


def _spread(shares: Float[np.ndarray, " documents"]) -> float:
    """The entropy of shares over the most that so many could have; 0 for one document, or nothing."""
    total = shares.sum()
    if len(shares) < 2 or total <= 0:
        return 0.0
    among = shares[shares > 0] / total
    return float(-(among * np.log(among)).sum() / math.log(len(shares)))
