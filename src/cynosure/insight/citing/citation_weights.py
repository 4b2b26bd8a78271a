"""Turn what weighted heads gave a source into the chance that a sentence was drawn from it. Fits nothing.

The chance is of what an ablation would show: that the sentence becomes less likely, by a stated number of
nats, where the source is denied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cynosure.core.errors import ProfileError
from cynosure.insight.logistic import chance
from cynosure.insight.probing import Head

#: The section of a head profile, and the group of heads whose fold is read.
SECTION, GROUP = "citations", "citation"


@dataclass(frozen=True)
class CitationWeights:
    """What was learned of a model's heads, as the section `citations` of its profile holds it.

    - `heads`, `weights`: a source's score is the weighted sum of what they gave it, over a sentence's tokens.
    - `intercept`, `of_score`, `of_share`: the logarithm of the odds, from the score and from its share of all
      sources' scores.
    - `min_score`: the least chance at which a source is cited, where a request says none.
    - `min_effect_nats`: what an ablation has to take off for a source to count as one.
    - `fitted_on`: which prompts, in words.
    """

    heads: tuple[Head, ...]
    weights: tuple[float, ...]
    intercept: float
    of_score: float
    of_share: float
    min_score: float
    min_effect_nats: float
    fitted_on: str

    def __post_init__(self) -> None:
        """Check that it can be what a fit wrote.

        Raises:
            ProfileError: heads and weights do not match, or a number is out of range.
        """
        numbers = (*self.weights, self.intercept, self.of_score, self.of_share, self.min_effect_nats)
        if (
            not self.heads
            or len(self.heads) != len(self.weights)
            or not all(map(math.isfinite, numbers))
            or not 0 <= self.min_score <= 1
        ):
            raise ProfileError(
                f"citation weights have {len(self.weights)} numbers for {len(self.heads)} heads, or one that "
                "is not finite; each head has one. Make the profile again with `cynosure profile`."
            )

    def chances(self, scores: Float[np.ndarray, " sources"]) -> Float[np.ndarray, " sources"]:
        """The chance of each source of one sentence, from their scores."""
        share = shares_of_scores(scores)
        return chance(self.intercept + self.of_score * scores + self.of_share * share)

    def as_json(self) -> dict[str, object]:
        """The section of a profile."""
        return vars(self) | {"heads": [list(head) for head in self.heads], "weights": list(self.weights)}

    @classmethod
    def of_json(cls, section: Mapping[str, object]) -> CitationWeights:
        """Read a profile's section.

        Raises:
            ProfileError: it was not written by a fit.
        """
        try:
            return cls(
                heads=tuple(_head(head) for head in _list(section["heads"])),
                weights=tuple(map(_number, _list(section["weights"]))),
                intercept=_number(section["intercept"]),
                of_score=_number(section["of_score"]),
                of_share=_number(section["of_share"]),
                min_score=_number(section["min_score"]),
                min_effect_nats=_number(section["min_effect_nats"]),
                fitted_on=str(section["fitted_on"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProfileError(
                f"the profile's section {SECTION!r} can't be read: {error!r}. Make the profile again with "
                "`cynosure profile`."
            ) from error


def shares_of_scores(scores: Float[np.ndarray, " sources"]) -> Float[np.ndarray, " sources"]:
    """Each score's part of all that are positive; 0 where none is."""
    positive = np.maximum(scores, 0.0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def _list(value: object) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{type(value).__name__} is no list")
    return value


def _head(value: object) -> Head:
    layer, head = map(_number, _list(value))
    return int(layer), int(head)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
