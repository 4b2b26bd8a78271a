"""What is told of audits, for so many models at most."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from cynosure.observe.audit_metrics import MAX_MODELS, AuditMetrics, AuditNumbers, AuditState


def written(state: AuditState) -> str:
    registry = CollectorRegistry()
    registry.register(AuditMetrics(lambda: state))
    return generate_latest(registry).decode()


def test_drop_alarm_and_reasons() -> None:
    told = written(AuditState({"m": AuditNumbers(4, 0.75, 2.5, True)}, {"busy": 3}))
    assert 'cynosure_attn_citation_audits_total{model_name="m"} 4.0' in told
    assert 'cynosure_attn_citation_held_ratio{model_name="m"} 0.75' in told
    assert 'cynosure_attn_citation_drop_nats{model_name="m"} 2.5' in told
    assert 'cynosure_attn_citation_alarm{model_name="m"} 1.0' in told
    assert 'cynosure_attn_citation_audits_skipped_total{reason="busy"} 3.0' in told


def test_models_are_bounded() -> None:
    models = {f"m{number}": AuditNumbers(1, 1.0, 0.0, False) for number in range(MAX_MODELS + 5)}
    assert written(AuditState(models)).count("citation_alarm{") == MAX_MODELS
