"""Freeze what a model's answers attended to, and keep it as a file. Knows nothing of answers that come later.

A reference holds quantiles, means and directions of features: no value of a caller's answer, and no text. Of
sentinels, whose prompts are the operator's own, it holds the tokens that were chosen and their numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, ValidationError

from cynosure.core.errors import InputError, NotFound
from cynosure.insight.drift.drift_distance import quantiles_of
from cynosure.insight.drift.drift_features import FEATURES, AnswerFeatures
from cynosure.insight.drift.drift_rule import limit_of
from cynosure.insight.drift.drift_scale import DriftScale, Stratum
from cynosure.insight.drift.drift_sentinel import FrozenSentinel, SentinelAnswer

FORMAT, VERSION = "cynosure-drift-reference", 1
#: Answers that a reference needs, and that a stratum of it does.
MIN_REFERENCE, MIN_STRATUM = 500, 100
_DIGITS = 9


@dataclass(frozen=True, eq=False)
class DriftReference:
    """What later answers are compared with.

    - `model`, `heads`: whose answers, and the digest of the heads that were watched.
    - `made_s`: seconds since 1970; `num_answers`: of how many.
    - `sentinels`: prompts that are asked again, and their first answers.
    - `scale`: how a row is scored; `pooled`: quantiles of each feature's standardised values, and `plain` of
      the values as they are; `limit`: of the sums of scores.
    """

    model: str
    heads: str
    made_s: float
    num_answers: int
    scale: DriftScale
    pooled: Float64[np.ndarray, "features quantiles"]
    plain: Float64[np.ndarray, "features quantiles"]
    limit: float
    sentinels: tuple[FrozenSentinel, ...] = ()

    @property
    def chart_names(self) -> tuple[str, ...]:
        """What each score is of: features, directions, and the distance in all of them."""
        joint = (f"joint_{at}" for at in range(len(self.scale.directions)))
        return (*(feature.name for feature in FEATURES), *joint, "joint_distance")

    @property
    def digest(self) -> str:
        """What stands for all of it."""
        return _digest_of(_content(self))


def freeze(
    model: str,
    heads: str,
    answers: Sequence[AnswerFeatures],
    made_s: float,
    sentinels: Sequence[FrozenSentinel] = (),
) -> DriftReference:
    """Make a reference of answers, in the order in which they were given. Takes seconds.

    Raises:
        InputError: there are too few.
    """
    if len(answers) < MIN_REFERENCE:
        raise InputError(
            f"{len(answers)} watched answers of {model} are known; a drift reference needs {MIN_REFERENCE}. "
            "Wait for more."
        )
    rows = np.array([one.values for one in answers], dtype=np.float64)
    lengths = np.array([one.num_prompt_tokens for one in answers], dtype=np.int64)
    scale = DriftScale.fit(rows, lengths, MIN_STRATUM)
    standard = scale.standard(rows, lengths)
    return DriftReference(
        model=model,
        heads=heads,
        made_s=made_s,
        num_answers=len(answers),
        scale=scale,
        pooled=np.stack([quantiles_of(column) for column in standard.T]),
        plain=np.stack([quantiles_of(column) for column in rows.T]),
        limit=limit_of(rows, lengths, MIN_STRATUM),
        sentinels=tuple(sentinels),
    )


def check_identity(reference: DriftReference, model: str, heads: str) -> None:
    """Refuse a reference that is of other answers.

    Raises:
        InputError: it is of another model, or of other heads of it.
    """
    for what, its, ours in (("model", reference.model, model), ("heads", reference.heads, heads)):
        if its != ours:
            raise InputError(
                f"the drift reference is of {what} {its!r}; this server has {ours!r}. Remove it, and freeze "
                "a new one (cynosure drift freeze)."
            )


def write_reference(reference: DriftReference, path: Path) -> None:
    """Write it, whole or not at all."""
    content = _content(reference)
    told = {"format": FORMAT, "version": VERSION, **content, "digest": _digest_of(content)}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    draft.write_text(json.dumps(told, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(path)


def read_reference(path: Path) -> DriftReference:
    """Read what `write_reference` wrote.

    Raises:
        NotFound: there is no such file.
        InputError: it is none of ours, of another version, damaged, or of other features.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as fault:
        raise NotFound(
            f"drift reference {path} does not exist. Freeze one (cynosure drift freeze)."
        ) from fault
    except (OSError, ValueError) as fault:
        raise InputError(f"drift reference {path} can't be read: {fault}. Freeze a new one.") from fault
    if not isinstance(told, dict) or told.pop("format", None) != FORMAT:
        raise InputError(f"{path} is no drift reference. Name another file.")
    version, digest = told.pop("version", None), told.pop("digest", None)
    if version != VERSION:
        raise InputError(
            f"drift reference {path} has version {version}; this Cynosure reads {VERSION}. Freeze a new one."
        )
    if digest != _digest_of(told):
        raise InputError(f"drift reference {path} was altered: its digest is another. Freeze a new one.")
    try:
        return _Kept.model_validate(told).reference()
    except (ValidationError, ValueError) as fault:
        raise InputError(f"drift reference {path} is of other features. Freeze a new one.") from fault


class _KeptStratum(BaseModel):
    model_config = ConfigDict(extra="forbid")
    low: int
    num: int
    quantiles: list[list[float]]
    mean: list[float]
    spread: list[float]


class _KeptSentinel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    prompt: str
    token_ids: list[int]
    numbers: list[list[float]]
    limit: float

    def frozen(self) -> FrozenSentinel:
        numbers = tuple(map(tuple, self.numbers))
        return FrozenSentinel(
            self.id, SentinelAnswer(self.prompt, tuple(self.token_ids), numbers), self.limit
        )


class _Kept(BaseModel):
    """A reference as its file has it."""

    model_config = ConfigDict(extra="forbid")
    model: str
    heads: str
    made_s: float
    num_answers: int
    features: list[str]
    strata: list[_KeptStratum]
    directions: list[list[float]]
    mean: list[float]
    spread: list[float]
    pooled: list[list[float]]
    plain: list[list[float]]
    limit: float
    sentinels: list[_KeptSentinel]

    def reference(self) -> DriftReference:
        """The same, in arrays.

        Raises:
            ValueError: features or shapes are not ours.
        """
        if self.features != [feature.name for feature in FEATURES]:
            raise ValueError("features")
        strata = tuple(
            Stratum(one.low, one.num, np.array(one.quantiles), np.array(one.mean), np.array(one.spread))
            for one in self.strata
        )
        directions = np.array(self.directions).reshape(-1, len(FEATURES))
        if len(self.mean) != len(FEATURES) + len(directions) + 1 or len(self.spread) != len(self.mean):
            raise ValueError("charts")
        scale = DriftScale(strata, directions, np.array(self.mean), np.array(self.spread))
        identity = (self.model, self.heads, self.made_s, self.num_answers)
        arrays = np.array(self.pooled), np.array(self.plain)
        sentinels = tuple(one.frozen() for one in self.sentinels)
        return DriftReference(*identity, scale, *arrays, self.limit, sentinels)


def _content(reference: DriftReference) -> dict[str, Any]:
    scale = reference.scale
    return {
        "model": reference.model,
        "heads": reference.heads,
        "made_s": reference.made_s,
        "num_answers": reference.num_answers,
        "features": [feature.name for feature in FEATURES],
        "strata": [
            {
                "low": stratum.low,
                "num": stratum.num,
                "quantiles": _plain(stratum.quantiles),
                "mean": _plain(stratum.mean),
                "spread": _plain(stratum.spread),
            }
            for stratum in scale.strata
        ],
        "directions": _plain(scale.directions),
        "mean": _plain(scale.mean),
        "spread": _plain(scale.spread),
        "pooled": _plain(reference.pooled),
        "plain": _plain(reference.plain),
        "limit": round(reference.limit, _DIGITS),
        "sentinels": [
            {
                "id": one.id,
                "prompt": one.answer.prompt,
                "token_ids": list(one.answer.token_ids),
                "numbers": [list(row) for row in one.answer.numbers],
                "limit": one.limit,
            }
            for one in reference.sentinels
        ],
    }


def _plain(array: np.ndarray) -> list[Any]:
    return np.round(array, _DIGITS).tolist()


def _digest_of(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
