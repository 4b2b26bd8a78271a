"""Shape `/v1/drift`, our own: how far what is attended to moved from a frozen reference. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cynosure.server.schemas.wire import Text, WireRequest

#: - `collecting`: there is no reference yet; features of watched answers are kept to make one of.
#: - `watching`: answers are compared with it; - `alarm`: a shift is found, and has not gone back.
State = Literal["collecting", "watching", "alarm"]
#: What an alarm is of: one feature's values, how features go together, or frozen prompts answered again.
ChartKind = Literal["feature", "joint", "sentinel"]


class FreezeReference(WireRequest):
    """Take what the last watched answers of a model attended to as the reference, in place of any before."""

    model: Annotated[Text, Field(min_length=1, max_length=256)]


class Quantiles(BaseModel):
    """How values of a feature lie; null where there are none."""

    p05: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p95: float | None
    mean: float | None


class StratumDrift(BaseModel):
    """A feature in prompts of `low` to `high` tokens, `high` not included; null: without that limit.

    `psi` and `wasserstein` compare the window with the reference; null where either holds too little.
    """

    low: int | None
    high: int | None
    num_reference: int
    num_window: int
    psi: float | None
    wasserstein: float | None


class ChartDrift(BaseModel):
    """Cumulated sums of how far a feature lay above and below the reference; at `limit` there is an alarm."""

    up: float
    down: float
    limit: float


class AdwinDrift(BaseModel):
    """What ADWIN says of a feature by itself: a second opinion, which raises no alarm.

    `num_changes` since the reference was made; `last_change` is the number of the answer where it saw the
    last.
    """

    num_changes: int
    last_change: int | None


class FeatureDrift(BaseModel):
    """One feature of answers, over all strata and in each.

    - `name`: as the metrics call it; `title`: for people; `unit`: `share`, `bits`, `log2 documents` or `log2
      tokens`.
    - `psi`, `wasserstein`: over all strata, of values relative to those of like length. PSI: below 0.1
      nothing, from 0.25 much. Wasserstein: the distance by which values moved, in standard deviations of the
      reference.
    - `history`: means of the last windows, oldest first, of as many answers each as the board's
      `history_every`.
    """

    name: str
    title: str
    unit: str
    reference: Quantiles
    window: Quantiles
    psi: float | None
    wasserstein: float | None
    chart: ChartDrift
    adwin: AdwinDrift | None
    is_alarm: bool
    strata: list[StratumDrift]
    history: list[float]


class JointDrift(BaseModel):
    """A direction in which the reference's features hardly move: how they go together.

    `weights` name the features that make most of it, largest first.
    """

    name: str
    weights: dict[str, float]
    chart: ChartDrift
    is_alarm: bool


class SentinelDrift(BaseModel):
    """A frozen prompt that is answered again and again, and how far that was from its first answer.

    - `distance`: the largest change of a share of attention, of a bit of its entropy, or of a
      log-probability; null where tokens are not comparable. `limit`: from which it counts.
    - `state`: `same`, `moved` (numbers), `answer` (other tokens were chosen), `prompt` (its tokens are
      others: the template or the tokenizer changed), or `unread`.
    """

    id: str
    state: Literal["same", "moved", "answer", "prompt", "unread"]
    distance: float | None
    limit: float
    num_answers: int


class Alarm(BaseModel):
    """A shift that was found: when, at which answer since the reference was made, in what, in words.

    `ended` is when it had gone back, or null.
    """

    since: float
    at_answer: int
    kind: ChartKind
    name: str
    message: str
    ended: float | None


class DriftReference(BaseModel):
    """What answers are compared with; `made` is in seconds since 1970.

    `false_alarms` is at most how many in 10,000 answers are expected while nothing changes.
    """

    made: float
    num_answers: int
    digest: str
    heads: str
    is_kept: bool
    false_alarms: float


class ModelDrift(BaseModel):
    """One model: `num_answers` were counted since the reference was made, or since the start without one.

    `num_left_out` were watched on other heads than the reference, so that they can't be compared.
    """

    model: str
    state: State
    num_answers: int
    num_left_out: int
    num_window: int
    reference: DriftReference | None
    alarm: Alarm | None
    past_alarms: list[Alarm]
    features: list[FeatureDrift]
    joint: list[JointDrift]
    sentinels: list[SentinelDrift]


class DriftBoard(BaseModel):
    """Every model that answered while it was watched.

    `window` is how many of the last answers are compared, `min_reference` how many a reference needs, `adwin`
    whether its package is installed.
    """

    object: Literal["drift"] = "drift"
    window: int
    history_every: int
    min_reference: int
    adwin: bool
    num_dropped: int
    models: list[ModelDrift]
