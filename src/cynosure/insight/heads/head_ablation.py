"""Compare what a model foretells without some heads and without others. Knows nothing of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from jaxtyping import Float

from cynosure.insight.heads.head_probes import LOG_HALF, all_heads
from cynosure.insight.heads.probe_tasks import ProbeCase
from cynosure.insight.probing import Head, ProbedModel

#: Nats a token that leaving heads out must cost at least, to be worth the name.
MIN_DROP = 0.05
_NUM_BOOTSTRAPS, _LOW = 1000, 0.01


@dataclass(frozen=True)
class Ablation:
    """What leaving heads out costs, in nats a token, and what leaving out as many others does.

    - `drop`: of the heads; `random_mean`, `random_max`: over `num_random` other groups.
    - `margin_low`: of 100 draws of as many sequences, in 99 the heads cost so much more than the others'
      mean.
    """

    drop: float
    random_mean: float
    random_max: float
    num_random: int
    margin_low: float

    @property
    def is_confirmed(self) -> bool:
        """Whether the model needs these heads for the task more than any others that were tried."""
        return (
            self.num_random > 0
            and self.drop >= MIN_DROP
            and self.drop > self.random_max
            and self.margin_low > 0
        )


class Ablator:
    """Leaves heads of a model out over the same sequences, again and again."""

    def __init__(self, model: ProbedModel, cases: Sequence[ProbeCase]) -> None:
        """See what the whole model foretells."""
        self._model = model
        self._cases = cases
        whole = [model.log_probs(case.token_ids, case.first) for case in cases]
        self._whole = np.array([one.mean() for one in whole])
        said = np.concatenate(whole)
        #: The share of tokens that the whole model would generate.
        self.accuracy = float((said >= LOG_HALF).mean())

    def drops(self, heads: Sequence[Head]) -> Float[np.ndarray, " cases"]:
        """What each sequence's tokens lose without heads, in nats a token."""
        left = [
            self._model.log_probs(case.token_ids, case.first, without=heads).mean() for case in self._cases
        ]
        return self._whole - np.array(left)

    def compare(self, heads: Sequence[Head], spared: Sequence[Head], num_random: int, seed: int) -> Ablation:
        """Leave heads out, and so many random groups of others, none of which is `spared`."""
        others = peers(heads, spared, self._model.num_heads, num_random, seed)
        own = self.drops(heads)
        if not others:
            return Ablation(float(own.mean()), 0.0, 0.0, 0, 0.0)
        random = np.stack([self.drops(group) for group in others])
        margins = own - random.mean(axis=0)
        dice = np.random.default_rng((seed, 5))
        drawn = margins[dice.integers(0, len(margins), (_NUM_BOOTSTRAPS, len(margins)))].mean(axis=1)
        by_group = random.mean(axis=1)
        return Ablation(
            drop=float(own.mean()),
            random_mean=float(by_group.mean()),
            random_max=float(by_group.max()),
            num_random=len(others),
            margin_low=float(np.quantile(drawn, _LOW)),
        )


def peers(
    heads: Sequence[Head], spared: Sequence[Head], num_heads: Sequence[int], limit: int, seed: int
) -> list[tuple[Head, ...]]:
    """Different groups of as many other heads of the same layers, at most `limit`; none where there are none.

    Where a layer has too few others, the rest comes from any layer.
    """
    kept = {*heads, *spared}
    free = [head for head in all_heads(num_heads) if head not in kept]
    wanted = {layer: sum(of == layer for of, _ in heads) for layer, _ in heads}
    own = {layer: [head for head in free if head[0] == layer] for layer in wanted}
    if len(free) < len(heads):
        return []
    if all(len(own[layer]) >= count for layer, count in wanted.items()) and len(wanted) == 1:
        ((layer, count),) = wanted.items()
        if comb(len(own[layer]), count) <= limit:
            return list(combinations(own[layer], count))
    dice = np.random.default_rng((seed, 4))
    groups: dict[tuple[Head, ...], None] = {}
    for _ in range(4 * limit):
        group: list[Head] = []
        for layer, count in wanted.items():
            group += _some(own[layer], min(count, len(own[layer])), dice)
        rest = [head for head in free if head not in group]
        group += _some(rest, len(heads) - len(group), dice)
        groups[tuple(sorted(group))] = None
        if len(groups) == limit:
            break
    return list(groups)


def _some(heads: Sequence[Head], count: int, dice: np.random.Generator) -> list[Head]:
    return [heads[place] for place in dice.choice(len(heads), count, replace=False)] if count else []
