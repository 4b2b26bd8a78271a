from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cynosure.insight.drift.drift_features import FEATURES
from cynosure.observe.attention_metrics import (
    MAX_MODELS,
    MAX_SERIES,
    AnswerNumbers,
    AttentionMetrics,
    DriftNumbers,
)
from cynosure.observe.metrics import ServingMetrics
from tests.observe.test_metrics import values

SHARES = {"user": 0.5, "document": 0.2, "sink": 0.3}


@pytest.fixture
def metrics() -> AttentionMetrics:
    return AttentionMetrics()


def written(metrics: AttentionMetrics) -> dict[str, float]:
    serving = ServingMetrics()
    serving.watch(metrics)
    found = values(serving)
    return {name.removeprefix("cynosure_attn_"): value for name, value in found.items() if "_attn_" in name}


def test_answers_are_counted(metrics: AttentionMetrics) -> None:
    metrics.answered("m", AnswerNumbers(7, SHARES, 3.5, 0.9, focus=0.7, risk=0.2, num_citations=2))
    metrics.answered("m", AnswerNumbers(3, {"user": 0.1, "sink": 0.9}, 1.5, 1.0, num_risk_unknown=1))
    found = written(metrics)
    assert found["answers_total{model_name=m}"] == 2
    assert found["tokens_total{model_name=m}"] == 10
    assert found["segment_mass_count{model_name=m,role=user}"] == 2
    assert found["segment_mass_sum{model_name=m,role=user}"] == pytest.approx(0.6)
    assert found["segment_mass_bucket{le=0.4,model_name=m,role=user}"] == 1
    assert found["segment_mass_bucket{le=+Inf,model_name=m,role=user}"] == 2
    assert found["segment_mass_count{model_name=m,role=document}"] == 1
    assert found["sink_mass_sum{model_name=m}"] == pytest.approx(1.2)
    assert found["entropy_bits_bucket{le=2.0,model_name=m}"] == 1
    assert found["lookback_count{model_name=m}"] == 2
    assert found["focus_count{model_name=m}"] == found["risk_count{model_name=m}"] == 1
    assert found["risk_unknown_total{model_name=m}"] == 1
    assert found["citations_total{model_name=m}"] == 2


def test_drift_and_capture_are_told() -> None:
    metrics = AttentionMetrics(lambda: {"m": DriftNumbers(True, 2, 1.1, {"entropy": 0.4})})
    metrics.took("Desk", 0.25, 0)
    metrics.took("Desk", 0.5, 3)
    found = written(metrics)
    assert found["drift_alarm{model_name=m}"] == 1
    assert found["drift_alarms_total{model_name=m}"] == 2
    assert found["drift_statistic{model_name=m}"] == 1.1
    assert found["drift_psi{feature=entropy,model_name=m}"] == 0.4
    assert found["capture_seconds_total{sink=Desk}"] == 0.75
    assert found["capture_drops_total{sink=Desk}"] == 3


def test_series_are_bounded_whatever_comes() -> None:
    psi = {feature.name: 0.1 for feature in FEATURES}
    drift = {f"model {at}": DriftNumbers(False, 0, 0.0, psi) for at in range(64)}
    metrics = AttentionMetrics(lambda: drift)
    for at in range(300):
        roles = {f"role {at}": 0.1, "tool": 0.1, "doc:secret": 0.2} | SHARES
        every = dict.fromkeys(
            ("system", "user", "assistant", "tool", "tools", "document", "image", "template", "generated"),
            0.1,
        )
        metrics.answered(f"model {at}", AnswerNumbers(1, roles | every, 1.0, 1.0, 0.5, 0.5))
        metrics.took(f"sink {at}", 0.1, 0)
    found = written(metrics)
    assert MAX_SERIES / 2 < len(found) <= MAX_SERIES
    assert found["answers_total{model_name=other}"] == 300 - MAX_MODELS
    assert not any("secret" in name or "role 2" in name for name in found)


def test_every_family_is_there_before_the_first_answer(metrics: AttentionMetrics) -> None:
    serving = ServingMetrics()
    serving.watch(metrics)
    families = {family.name for family in text_string_to_metric_families(serving.written().decode())}
    told = {one.name for one in metrics.collect()}
    assert len(told) == 16
    assert told <= families
