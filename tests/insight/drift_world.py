"""Draw answers of a made-up service, with shifts on request. Asserts nothing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cynosure.insight.drift.drift_features import FEATURES, AnswerFeatures, features_from
from cynosure.insight.drift.drift_reference import DriftReference, freeze

ROLES = ("system", "user", "document", "template", "generated", "sink")
PLACE = {feature.name: at for at, feature in enumerate(FEATURES)}


def answers(
    seed: int,
    count: int,
    shifts: dict[str, float] | None = None,
    *,
    has_documents: bool = True,
    tied: bool = True,
) -> list[AnswerFeatures]:
    """Answers to prompts of 60 to 260 tokens; the longer, the more documents get.

    Args:
        seed: Of everything.
        count: How many.
        shifts: What is added to features, in their unit.
        has_documents: Whether prompts have any.
        tied: Whether entropy goes along with the mass of documents.
    """
    dice = np.random.default_rng(seed)
    lengths = dice.integers(60, 260, count)
    weights = dice.gamma(4.0, 1.0, (count, len(ROLES)))
    weights[:, 2] *= lengths / 150 if has_documents else 0
    masses = weights / weights.sum(1, keepdims=True)
    along = masses[:, 2] if tied else dice.permutation(masses[:, 2])
    entropies = 3 + 2 * along + np.log2(lengths) / 5 + dice.normal(0, 0.05, count)
    sizes = dice.integers(3, 20, count)
    rows = []
    for mass, entropy, length, size in zip(masses, entropies, lengths, sizes, strict=True):
        by_role = dict(zip(ROLES, map(float, mass), strict=True))
        prompt = sum(mass[:4])
        lookback = float(prompt / (prompt + mass[4]))
        one = features_from(
            by_role, float(entropy), lookback, 3 if has_documents else 0, int(length), int(size)
        )
        values = list(one.values)
        for name, added in (shifts or {}).items():
            values[PLACE[name]] += added
        rows.append(AnswerFeatures(tuple(values), int(length)))
    return rows


@lru_cache(maxsize=1)
def frozen() -> DriftReference:
    """A reference of 1,000 stationary answers, made once."""
    return freeze("org/model", "cafe", answers(1, 1000), 5.0)
