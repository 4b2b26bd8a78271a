"""Tell whether the engine's process is up, and how often it was started again. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True)
class ProcessState:
    """One moment of the engine's process."""

    is_up: bool
    num_restarts: int


class ProcessMetrics(Collector):
    """Reads the state when asked; says nothing where there is no process of its own."""

    def __init__(self, read: Callable[[], ProcessState | None]) -> None:
        """Keep what is read."""
        self._read = read

    def describe(self) -> list[Metric]:
        """Nothing: the registry would read the state to learn two names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """`cynosure_engine_up` and `cynosure_engine_restarts_total`."""
        state = self._read()
        if state is None:
            return
        up = GaugeMetricFamily("cynosure_engine_up", "Whether the engine's process takes requests.")
        up.add_metric([], float(state.is_up))
        restarts = CounterMetricFamily(
            "cynosure_engine_restarts", "Times that the engine's process was started again."
        )
        restarts.add_metric([], state.num_restarts)
        yield from (up, restarts)
