"""Tell how far citations have held, for Prometheus. Knows nothing of how they are tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

#: The first models that are audited have series of their own, and no later one has any.
MAX_MODELS = 8


@dataclass(frozen=True)
class AuditNumbers:
    """One model: audits, the share that held, and the mean drop of a sentence's log-probability in nats."""

    num: int
    held: float
    mean_drop_nats: float
    is_alarmed: bool


@dataclass(frozen=True)
class AuditState:
    """All models that were audited, in that order, and how many audits were given up, by reason."""

    models: Mapping[str, AuditNumbers] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


class AuditMetrics(Collector):
    """Reads the state when asked."""

    def __init__(self, read: Callable[[], AuditState]) -> None:
        """Keep what is read."""
        self._read = read

    def describe(self) -> list[Metric]:
        """Nothing: the registry would read the state to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Counters of audits and of those given up; gauges of how many held, of the drop, and the alarm."""
        state, model = self._read(), ["model_name"]
        audits = CounterMetricFamily(
            "cynosure_attn_citation_audits",
            "Citations that were tested by denying what they cite.",
            labels=model,
        )
        held = GaugeMetricFamily(
            "cynosure_attn_citation_held_ratio",
            "Share of audits in which the cited part mattered more than another.",
            labels=model,
        )
        drop = GaugeMetricFamily(
            "cynosure_attn_citation_drop_nats",
            "How much less likely a sentence is without what it cites, on average.",
            labels=model,
        )
        alarm = GaugeMetricFamily(
            "cynosure_attn_citation_alarm",
            "Whether it is certain that fewer citations hold than should.",
            labels=model,
        )
        for name, one in list(state.models.items())[:MAX_MODELS]:
            audits.add_metric([name], one.num)
            held.add_metric([name], one.held)
            drop.add_metric([name], one.mean_drop_nats)
            alarm.add_metric([name], float(one.is_alarmed))
        skipped = CounterMetricFamily(
            "cynosure_attn_citation_audits_skipped",
            "Audits that were given up, by reason.",
            labels=["reason"],
        )
        for reason, count in state.skipped.items():
            skipped.add_metric([reason], count)
        yield from (audits, held, drop, alarm, skipped)
