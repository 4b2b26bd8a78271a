from __future__ import annotations

from cynosure.observe.metrics import ServingMetrics
from cynosure.observe.process_metrics import ProcessMetrics, ProcessState
from tests.observe.test_metrics import values

UP, RESTARTS = "cynosure_engine_up{}", "cynosure_engine_restarts_total{}"


def test_the_state_is_read_whenever_metrics_are_written() -> None:
    state: list[ProcessState | None] = [None]
    metrics = ServingMetrics()
    metrics.watch(ProcessMetrics(lambda: state[0]))
    assert UP not in values(metrics), "no process of its own, nothing to say"
    for is_up, num_restarts in ((True, 0), (False, 3)):
        state[0] = ProcessState(is_up, num_restarts)
        found = values(metrics)
        assert (found[UP], found[RESTARTS]) == (is_up, num_restarts)
