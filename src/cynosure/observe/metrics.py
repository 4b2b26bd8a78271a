"""Count and time what is served, for Prometheus. Knows nothing of HTTP, models or tenants.

Names and units are vLLM's, with `cynosure_` before them, so that dashboards port over. Labels are few and
bounded: the models that are loaded, four ways to finish, HTTP status codes. None holds text of a request,
and none says who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cynosure.observe.load import EngineLoad

CONTENT_TYPE = CONTENT_TYPE_LATEST

Finish = Literal["stop", "length", "abort", "error"]
FINISHES: tuple[Finish, ...] = ("stop", "length", "abort", "error")

ReadLoads = Callable[[], Mapping[str, EngineLoad]]
"""Gives the load of each engine by the name of its model."""

FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
    640, 2560,
)  # fmt: skip
NEXT_TOKEN_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    20, 40, 80,
)  # fmt: skip
WHOLE_S = (
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip

NUM_TOKENS = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000,
)  # fmt: skip


@runtime_checkable
class Collects(Protocol):
    """Another part of the server that tells numbers of its own when it is asked."""

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        ...


class ModelMetrics:
    """The instruments of one model."""

    def __init__(self, metrics: ServingMetrics, model: str) -> None:
        """Bind the label."""
        self._prompt_tokens = metrics.prompt_tokens.labels(model)
        self._generation_tokens = metrics.generation_tokens.labels(model)
        self._first_token = metrics.first_token.labels(model)
        self._next_token = metrics.next_token.labels(model)
        self._whole = metrics.whole.labels(model)
        self._queue = metrics.queue.labels(model)
        self._prefill = metrics.prefill.labels(model)
        self._decode = metrics.decode.labels(model)
        self._inference = metrics.inference.labels(model)
        self._preemptions = metrics.preemptions.labels(model)
        self._prompt_size = metrics.prompt_size.labels(model)
        self._answer_size = metrics.answer_size.labels(model)
        self._finished = {finish: metrics.finished.labels(model, finish) for finish in FINISHES}

    def read(self, num_tokens: int) -> None:
        """Count tokens of a prompt or a text to embed, cached ones included."""
        self._prompt_tokens.inc(num_tokens)

    def chose_first(self, seconds: float) -> None:
        """Count the first token of an answer, and the time since its request came."""
        self._generation_tokens.inc()
        self._first_token.observe(seconds)

    def chose_next(self, seconds: float) -> None:
        """Count a later token, and the time since the one before it."""
        self._generation_tokens.inc()
        self._next_token.observe(seconds)

    def went(self, *, queue_s: float, prefill_s: float, decode_s: float, num_preemptions: int) -> None:
        """Count what an engine told of a sequence that ended."""
        self._queue.observe(queue_s)
        self._prefill.observe(prefill_s)
        self._decode.observe(decode_s)
        self._inference.observe(prefill_s + decode_s)
        self._preemptions.inc(num_preemptions)

    def finish(self, finish: Finish, seconds: float, num_prompt_tokens: int, num_tokens: int) -> None:
        """Count an answer's end, the time since its request came, and how long both were."""
        self._finished[finish].inc()
        self._prompt_size.observe(num_prompt_tokens)
        self._answer_size.observe(num_tokens)
        self._whole.observe(seconds)


class ServingMetrics:
    """All instruments of one server, in a registry of their own."""

    def __init__(self, read_loads: ReadLoads = dict) -> None:
        """Start at zero; `read_loads` is called whenever the metrics are written."""
        registry = self._registry = CollectorRegistry()
        self._read_loads = read_loads
        model = ["model_name"]
        self.prompt_tokens = Counter(
            "cynosure_prompt_tokens", "Prompt tokens read.", model, registry=registry
        )
        self.generation_tokens = Counter(
            "cynosure_generation_tokens", "Tokens chosen.", model, registry=registry
        )
        self.first_token = Histogram(
            "cynosure_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            model,
            registry=registry,
            buckets=FIRST_TOKEN_S,
        )
        self.next_token = Histogram(
            "cynosure_time_per_output_token_seconds",
            "From one token of an answer to its next.",
            model,
            registry=registry,
            buckets=NEXT_TOKEN_S,
        )
        self.whole = Histogram(
            "cynosure_e2e_request_latency_seconds",
            "From the request's arrival to the end of its answer.",
            model,
            registry=registry,
            buckets=WHOLE_S,
        )
        self.queue = _times(
            registry, "request_queue_time", "From the arrival at the engine to the first step."
        )
        self.prefill = _times(registry, "request_prefill_time", "From the first step to the first token.")
        self.decode = _times(registry, "request_decode_time", "From the first token to the last.")
        self.inference = _times(registry, "request_inference_time", "From the first step to the last token.")
        self.prompt_size = _sizes(registry, "request_prompt_tokens", "Tokens of a prompt.")
        self.answer_size = _sizes(registry, "request_generation_tokens", "Tokens of an answer.")
        self.preemptions = Counter(
            "cynosure_num_preemptions",
            "Times that sequences gave up their pages and were computed again, told when they end.",
            model,
            registry=registry,
        )
        self.findings = Counter(
            "cynosure_guard_findings",
            "What the guard found, by where, what and what was done with it.",
            ["direction", "kind", "action"],
            registry=registry,
        )
        self.finished = Counter(
            "cynosure_request_success",
            "Answers by how they ended: stop, length, abort (the client left) or error.",
            [*model, "finished_reason"],
            registry=registry,
        )
        self.responses = Counter(
            "cynosure_http_responses", "HTTP responses by status.", ["status"], registry=registry
        )
        registry.register(_Renamed(self.next_token, "cynosure_inter_token_latency_seconds"))
        registry.register(_Loads(read_loads))
        ProcessCollector(registry=registry)
        self._models: dict[str, ModelMetrics] = {}

    def of_model(self, name: str) -> ModelMetrics:
        """The instruments of a model that is loaded; names that requests made up must not come here."""
        if name not in self._models:
            self._models[name] = ModelMetrics(self, name)
        return self._models[name]

    def watch(self, collector: Collects) -> None:
        """Write what another part tells, beside the rest."""
        self._registry.register(collector)

    def responded(self, status: int) -> None:
        """Count a response."""
        self.responses.labels(str(status)).inc()

    def found(self, direction: str, kind: str, action: str, count: int) -> None:
        """Count what the guard found; all three are words of ours."""
        self.findings.labels(direction, kind, action).inc(count)

    def written(self) -> bytes:
        """Everything, in Prometheus' text format; a loaded model's series exist before its first request."""
        for name in self._read_loads():
            self.of_model(name)
        return generate_latest(self._registry)


def _times(registry: CollectorRegistry, name: str, told: str) -> Histogram:
    return Histogram(f"cynosure_{name}_seconds", told, ["model_name"], registry=registry, buckets=WHOLE_S)


def _sizes(registry: CollectorRegistry, name: str, told: str) -> Histogram:
    return Histogram(f"cynosure_{name}", told, ["model_name"], registry=registry, buckets=NUM_TOKENS)


class _Renamed(Collector):
    """Shows a metric under a second name: vLLM has changed one, and dashboards know either."""

    def __init__(self, metric: Histogram, name: str) -> None:
        self._metric = metric
        self._name = name

    def describe(self) -> list[Metric]:
        return [Metric(self._name, "", "histogram")]

    def collect(self) -> Iterator[Metric]:
        for told in self._metric.collect():
            other = Metric(self._name, told.documentation, told.type)
            for sample in told.samples:
                name = self._name + sample.name.removeprefix(told.name)
                other.add_sample(name, sample.labels, sample.value, sample.timestamp, sample.exemplar)
            yield other


class _Loads(Collector):
    """Reads the engines when asked, so that nothing is counted twice."""

    def __init__(self, read_loads: ReadLoads) -> None:
        self._read_loads = read_loads

    def describe(self) -> list[Metric]:
        # The registry would collect once to learn the names, when there is no engine to read yet.
        return []

    def collect(self) -> Iterator[Metric]:
        model = ["model_name"]
        running = GaugeMetricFamily("cynosure_num_requests_running", "Requests in the batch.", labels=model)
        waiting = GaugeMetricFamily("cynosure_num_requests_waiting", "Requests not begun.", labels=model)
        usage = GaugeMetricFamily(
            "cynosure_kv_cache_usage_perc", "Share of pages in use; 1 is all of them.", labels=model
        )
        queries = CounterMetricFamily(
            "cynosure_prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", labels=model
        )
        hits = CounterMetricFamily(
            "cynosure_prefix_cache_hits", "Prompt tokens found in the prefix cache.", labels=model
        )
        drafted = CounterMetricFamily(
            "cynosure_spec_decode_num_draft_tokens", "Tokens guessed ahead.", labels=model
        )
        accepted = CounterMetricFamily(
            "cynosure_spec_decode_num_accepted_tokens", "Guessed tokens that were right.", labels=model
        )
        for name, load in self._read_loads().items():
            running.add_metric([name], load.num_running)
            waiting.add_metric([name], load.num_waiting)
            usage.add_metric([name], load.kv_cache_usage)
            queries.add_metric([name], load.num_prefix_queries)
            hits.add_metric([name], load.num_prefix_hits)
            drafted.add_metric([name], load.num_drafted)
            accepted.add_metric([name], load.num_accepted)
        yield from (running, waiting, usage, queries, hits, drafted, accepted)
