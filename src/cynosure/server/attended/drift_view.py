"""Draw up the drift board in the shape that `/v1/drift` answers with. Decides nothing and changes nothing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from cynosure.insight.drift.drift_distance import psi, quantiles_of, wasserstein
from cynosure.insight.drift.drift_features import FEATURES
from cynosure.insight.drift.drift_monitor import HISTORY_EVERY, WINDOW, DriftAlarm, DriftMonitor
from cynosure.insight.drift.drift_reference import MIN_REFERENCE, DriftReference
from cynosure.insight.drift.drift_rule import RATE
from cynosure.server.attended.drift_board import DriftBoard, WatchedModel
from cynosure.server.schemas import drift as schema

#: A stratum with fewer answers in the window has no distances.
_MIN_WINDOW = 30
_DIGITS = 6
_PLACES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


def board_view(board: DriftBoard, num_dropped: int) -> schema.DriftBoard:
    """Everything, as it is now."""
    with board.models() as models:
        told = [_model(name, kept) for name, kept in sorted(models.items())]
    return schema.DriftBoard(
        window=WINDOW,
        history_every=HISTORY_EVERY,
        min_reference=MIN_REFERENCE,
        adwin=board.has_adwin,
        num_dropped=num_dropped + board.num_unfollowed,
        models=told,
    )


def reference_view(reference: DriftReference, *, is_kept: bool) -> schema.DriftReference:
    """What is told of a reference."""
    return schema.DriftReference(
        made=reference.made_s,
        num_answers=reference.num_answers,
        digest=reference.digest,
        heads=reference.heads,
        is_kept=is_kept,
        false_alarms=RATE,
    )


def _model(name: str, kept: WatchedModel) -> schema.ModelDrift:
    monitor = kept.monitor
    if monitor is None:
        return schema.ModelDrift(
            model=name,
            state="collecting",
            num_answers=kept.num_answers,
            num_left_out=0,
            num_window=0,
            reference=None,
            alarm=None,
            past_alarms=[],
            features=[],
            joint=[],
            sentinels=[],
        )
    return schema.ModelDrift(
        model=name,
        state="watching" if monitor.alarm is None else "alarm",
        num_answers=monitor.num_answers,
        num_left_out=kept.num_left_out,
        num_window=len(monitor.window[1]),
        reference=reference_view(monitor.reference, is_kept=kept.is_kept),
        alarm=None if monitor.alarm is None else _alarm(monitor.alarm),
        past_alarms=[_alarm(alarm) for alarm in monitor.past_alarms],
        features=[_feature(monitor, at) for at in range(len(FEATURES))],
        joint=[_joint(monitor, at) for at in range(len(FEATURES), len(monitor.reference.chart_names))],
        sentinels=_sentinels(monitor),
    )


def _alarm(alarm: DriftAlarm) -> schema.Alarm:
    return schema.Alarm(
        since=alarm.since_s,
        at_answer=alarm.at_answer,
        kind=alarm.kind,
        name=alarm.chart,
        message=alarm.message,
        ended=alarm.ended_s,
    )


def _feature(monitor: DriftMonitor, at: int) -> schema.FeatureDrift:
    reference, feature = monitor.reference, FEATURES[at]
    rows, lengths = monitor.window
    is_enough = len(rows) >= _MIN_WINDOW
    standard = reference.scale.standard(rows, lengths)[:, at] if len(rows) else np.zeros(0)
    seen = monitor.changes[at] if monitor.changes else None
    chart = _chart(monitor, at)
    return schema.FeatureDrift(
        name=feature.name,
        title=feature.title,
        unit=feature.unit,
        reference=_quantiles(reference.plain[at], float(reference.plain[at].mean())),
        window=_quantiles(quantiles_of(rows[:, at]), float(rows[:, at].mean())) if len(rows) else _nothing(),
        psi=_rounded(psi(standard, reference.pooled[at])) if is_enough else None,
        wasserstein=_rounded(wasserstein(standard, reference.pooled[at])) if is_enough else None,
        chart=chart,
        adwin=None
        if seen is None
        else schema.AdwinDrift(num_changes=seen.num_changes, last_change=seen.last_change),
        is_alarm=max(chart.up, chart.down) >= chart.limit,
        strata=_strata(monitor, at),
        history=[_rounded(float(row[at])) for row in monitor.history],
    )


def _strata(monitor: DriftMonitor, at: int) -> list[schema.StratumDrift]:
    scale = monitor.reference.scale
    rows, lengths = monitor.window
    places = np.array([scale.place(int(length)) for length in lengths], dtype=np.int64)
    highs = [stratum.low for stratum in scale.strata[1:]]
    told = []
    for place, stratum in enumerate(scale.strata):
        values, quantiles = rows[places == place, at], stratum.quantiles[at]
        is_enough, spread = len(values) >= _MIN_WINDOW, float(stratum.spread[at])
        # A value that never changed has no spread to measure a distance in.
        can_measure = is_enough and spread > 0
        told.append(
            schema.StratumDrift(
                low=stratum.low or None,
                high=highs[place] if place < len(highs) else None,
                num_reference=stratum.num,
                num_window=len(values),
                psi=_rounded(psi(values, quantiles)) if is_enough else None,
                wasserstein=_rounded(wasserstein(values, quantiles) / spread) if can_measure else None,
            )
        )
    return told


def _joint(monitor: DriftMonitor, at: int) -> schema.JointDrift:
    name, direction = monitor.reference.chart_names[at], at - len(FEATURES)
    has_weights = direction < len(monitor.reference.scale.directions)
    weights = monitor.direction(direction) if has_weights else {}
    chart = _chart(monitor, at)
    return schema.JointDrift(
        name=name,
        weights={feature: _rounded(weight) for feature, weight in weights.items()},
        chart=chart,
        is_alarm=max(chart.up, chart.down) >= chart.limit,
    )


def _sentinels(monitor: DriftMonitor) -> list[schema.SentinelDrift]:
    watch = monitor.sentinels
    return [
        schema.SentinelDrift(
            id=frozen.id,
            state=reading.state,
            distance=reading.distance,
            limit=frozen.limit,
            num_answers=reading.num_answers,
        )
        for frozen, reading in zip(watch.frozen, watch.readings, strict=True)
    ]


def _chart(monitor: DriftMonitor, at: int) -> schema.ChartDrift:
    up, down = monitor.cusum.sums[:, at]
    limit = _rounded(monitor.reference.limit)
    return schema.ChartDrift(up=_rounded(float(up)), down=_rounded(float(down)), limit=limit)


def _quantiles(quantiles: Float64[np.ndarray, " quantiles"], mean: float) -> schema.Quantiles:
    found = {name: _rounded(float(np.quantile(quantiles, level))) for name, level in _PLACES.items()}
    return schema.Quantiles(**found, mean=_rounded(mean))


def _nothing() -> schema.Quantiles:
    return schema.Quantiles(p05=None, p25=None, p50=None, p75=None, p95=None, mean=None)


def _rounded(value: float) -> float:
    return round(value, _DIGITS)
