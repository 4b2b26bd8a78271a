"""Count what answers attended to, for Prometheus. Knows nothing of prompts, tenants or requests.

At most 2,000 series, whatever is served: the first `MAX_MODELS` models that answered while they were watched
have series of their own, and all later ones share `other`; roles are a fixed list. No label holds a word of a
caller.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

MAX_SERIES, MAX_MODELS, MAX_SINKS = 2000, 8, 12
OTHER = "other"
ROLES = (
    "system", "user", "assistant", "tool", "tools", "document", "image", "template", "sink", "generated",
    OTHER,
)  # fmt: skip
_ROLE_BOUNDS = (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_SHARE_BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_BITS_BOUNDS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)


@dataclass(frozen=True)
class AnswerNumbers:
    """One answer: shares of attention by role, and what else is known of it; None where it is not."""

    num_tokens: int
    mass_by_role: Mapping[str, float]
    entropy_bits: float
    lookback: float
    focus: float | None = None
    risk: float | None = None
    num_risk_unknown: int = 0
    num_citations: int = 0


@dataclass(frozen=True)
class DriftNumbers:
    """How far a model's answers have moved.

    `largest` is the largest of the charts' sums, in shares of its limit: 1 is an alarm. `psi` is by feature.
    """

    is_alarm: bool
    num_alarms: int
    largest: float
    psi: Mapping[str, float]


#: Gives the models that are compared with a reference, by name.
ReadDrift = Callable[[], Mapping[str, DriftNumbers]]


class _Histogram:
    """Counts of values up to each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def write(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        rows, count = [], 0
        for bound, more in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            count += more
            rows.append((bound, count))
        family.add_metric(labels, rows, self.total)


def _shares() -> _Histogram:
    return _Histogram(_SHARE_BOUNDS)


@dataclass
class _OfModel:
    """What is counted of one model."""

    by_role: dict[str, _Histogram] = field(default_factory=dict)
    sink: _Histogram = field(default_factory=_shares)
    entropy: _Histogram = field(default_factory=lambda: _Histogram(_BITS_BOUNDS))
    lookback: _Histogram = field(default_factory=_shares)
    focus: _Histogram = field(default_factory=_shares)
    risk: _Histogram = field(default_factory=_shares)
    num_answers: int = 0
    num_tokens: int = 0
    num_risk_unknown: int = 0
    num_citations: int = 0


#: Metrics of every model: name, what it says, and where it stands.
_HISTOGRAMS: tuple[tuple[str, str, Callable[[_OfModel], _Histogram]], ...] = (
    ("sink_mass", "Share of attention that went to sinks, by answer.", lambda kept: kept.sink),
    ("entropy_bits", "Entropy of attention, on average over an answer.", lambda kept: kept.entropy),
    (
        "lookback",
        "Share of the prompt in what went to prompt and answer, by answer.",
        lambda kept: kept.lookback,
    ),
    (
        "focus",
        "Share of trusted parts in what went to trusted and untrusted ones, of answers with both.",
        lambda kept: kept.focus,
    ),
    (
        "risk",
        "Largest grounding risk of an answer's sentences, where a profile tells it.",
        lambda kept: kept.risk,
    ),
)
_COUNTERS: tuple[tuple[str, str, Callable[[_OfModel], int]], ...] = (
    ("answers", "Answers that were watched.", lambda kept: kept.num_answers),
    ("tokens", "Tokens of answers that were watched.", lambda kept: kept.num_tokens),
    (
        "risk_unknown",
        "Sentences whose grounding risk lies outside of what it was calibrated on.",
        lambda kept: kept.num_risk_unknown,
    ),
    ("citations", "Citations that were given.", lambda kept: kept.num_citations),
)


class AttentionMetrics(Collector):
    """All `cynosure_attn_*` of one server. For any thread."""

    def __init__(self, read_drift: ReadDrift = dict) -> None:
        """Start at zero; `read_drift` is called whenever the metrics are written."""
        self._read_drift = read_drift
        self._lock = threading.Lock()
        self._models: dict[str, _OfModel] = {}
        self._seconds: dict[str, float] = {}
        self._drops: dict[str, int] = {}

    def answered(self, model: str, numbers: AnswerNumbers) -> None:
        """Count an answer that was watched."""
        by_role: dict[str, float] = {}
        for role, mass in numbers.mass_by_role.items():
            name = role if role in ROLES else OTHER
            by_role[name] = by_role.get(name, 0.0) + mass
        with self._lock:
            kept = self._of(model)
            for role, mass in by_role.items():
                kept.by_role.setdefault(role, _Histogram(_ROLE_BOUNDS)).add(mass)
            kept.sink.add(by_role.get("sink", 0.0))
            kept.entropy.add(numbers.entropy_bits)
            kept.lookback.add(numbers.lookback)
            if numbers.focus is not None:
                kept.focus.add(numbers.focus)
            if numbers.risk is not None:
                kept.risk.add(numbers.risk)
            kept.num_answers += 1
            kept.num_tokens += numbers.num_tokens
            kept.num_risk_unknown += numbers.num_risk_unknown
            kept.num_citations += numbers.num_citations

    def took(self, sink: str, seconds: float, num_drops: int) -> None:
        """Count the time of one report in a sink, and note how many it has dropped since the start."""
        with self._lock:
            name = sink if sink in self._seconds or len(self._seconds) < MAX_SINKS - 1 else OTHER
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds
            self._drops[name] = num_drops

    def describe(self) -> list[Metric]:
        """Nothing: names are known once they are written."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family, also such as have no series yet."""
        with self._lock:
            found = [self._by_role(), *self._told(), *self._drift(), *self._capture()]
        yield from found

    def _of(self, model: str) -> _OfModel:
        name = model if model in self._models or len(self._models) < MAX_MODELS else OTHER
        return self._models.setdefault(name, _OfModel())

    def _by_role(self) -> Metric:
        family = HistogramMetricFamily(
            "cynosure_attn_segment_mass",
            "Share of attention that all parts of a role got in an answer.",
            labels=["model_name", "role"],
        )
        for model, kept in self._models.items():
            for role, histogram in kept.by_role.items():
                histogram.write(family, [model, role])
        return family

    def _told(self) -> Iterator[Metric]:
        for name, told, histogram_of in _HISTOGRAMS:
            family = HistogramMetricFamily(f"cynosure_attn_{name}", told, labels=["model_name"])
            for model, kept in self._models.items():
                histogram_of(kept).write(family, [model])
            yield family
        for name, told, count_of in _COUNTERS:
            counter = CounterMetricFamily(f"cynosure_attn_{name}", told, labels=["model_name"])
            for model, kept in self._models.items():
                counter.add_metric([model], count_of(kept))
            yield counter

    def _drift(self) -> Iterator[Metric]:
        label = ["model_name"]
        alarm = GaugeMetricFamily(
            "cynosure_attn_drift_alarm", "Whether answers have shifted from the reference.", labels=label
        )
        alarms = CounterMetricFamily("cynosure_attn_drift_alarms", "Shifts that were found.", labels=label)
        largest = GaugeMetricFamily(
            "cynosure_attn_drift_statistic",
            "Largest cumulated sum of the drift charts, in shares of its limit; 1 is an alarm.",
            labels=label,
        )
        psi = GaugeMetricFamily(
            "cynosure_attn_drift_psi",
            "Population stability index of a feature over the last answers.",
            labels=[*label, "feature"],
        )
        for model, drift in list(self._read_drift().items())[:MAX_MODELS]:
            alarm.add_metric([model], float(drift.is_alarm))
            alarms.add_metric([model], drift.num_alarms)
            largest.add_metric([model], drift.largest)
            for feature, value in drift.psi.items():
                psi.add_metric([model, feature], value)
        yield from (alarm, alarms, largest, psi)

    def _capture(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(
            "cynosure_attn_capture_seconds",
            "Time that answers waited for what keeps and counts their attention.",
            labels=["sink"],
        )
        drops = CounterMetricFamily(
            "cynosure_attn_capture_drops", "Reports that were dropped, by what dropped them.", labels=["sink"]
        )
        for sink, spent in self._seconds.items():
            seconds.add_metric([sink], spent)
            drops.add_metric([sink], self._drops[sink])
        yield from (seconds, drops)
