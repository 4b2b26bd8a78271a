"""Send spans of what was served to OpenTelemetry, without content. Imports none of it until it is asked to.

`NAMES` is the one place where names of the semantic conventions stand; `gen_ai.*` are still in development
there, and change.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from cynosure.core.errors import MissingPackage

Value = str | int | float | bool | Sequence[str] | None

#: What we call a field, and what the conventions do.
NAMES: Mapping[str, str] = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "request_model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "num_choices": "gen_ai.request.choice.count",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "time_to_first_chunk": "gen_ai.response.time_to_first_chunk",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "error": "error.type",
    "request_id": "cynosure.request.id",
    "num_preemptions": "cynosure.num_preemptions",
    "pages_found": "cynosure.prefix_cache.pages_found",
    "pages_sought": "cynosure.prefix_cache.pages_sought",
    "guard": "cynosure.guard.findings",
}

PROVIDER = "cynosure"
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Phase:
    """A part of a request, on the clock of the wall, in seconds since 1970."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class RequestSpan:
    """A request that has ended. `fields` are by our names; `traceparent` is what its caller sent."""

    name: str
    start_s: float
    end_s: float
    fields: Mapping[str, Value]
    phases: Sequence[Phase] = ()
    is_failed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class SpanWriter:
    """Hands spans to a processor of OpenTelemetry, which sends them from a thread of its own."""

    def __init__(self, processor: Any, version: str = "") -> None:  # noqa: ANN401 - may not be installed
        """Take over a SpanProcessor; `version` is what runs."""
        trace = _imported("opentelemetry.sdk.trace")
        resources = _imported("opentelemetry.sdk.resources")
        self._api = _imported("opentelemetry.trace")
        self._propagation = _imported("opentelemetry.trace.propagation.tracecontext")
        service = {"service.name": "cynosure", "service.version": version}
        # What the environment names wins: the operator may call a server what he likes.
        resource = resources.Resource(service).merge(resources.OTELResourceDetector().detect())
        self._provider = trace.TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("cynosure", version)

    def write(self, told: RequestSpan) -> None:
        """Write a request and its phases, under the span of its caller where there is one."""
        parent = self._propagation.TraceContextTextMapPropagator().extract(told.headers)
        attributes = {NAMES[name]: value for name, value in told.fields.items() if value is not None}
        span = self._tracer.start_span(
            told.name, parent, self._api.SpanKind.SERVER, attributes, start_time=_ns(told.start_s)
        )
        within = self._api.set_span_in_context(span)
        for phase in told.phases:
            part = self._tracer.start_span(phase.name, within, start_time=_ns(phase.start_s))
            part.end(_ns(phase.end_s))
        if told.is_failed:
            span.set_status(self._api.StatusCode.ERROR)
        span.end(_ns(told.end_s))

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def otlp_writer(endpoint: str | None, version: str = "") -> SpanWriter:
    """A writer to a collector over OTLP/HTTP; without an endpoint, the one that the environment names.

    Raises:
        MissingPackage: OpenTelemetry is not installed.
    """
    exporter = _imported("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    export = _imported("opentelemetry.sdk.trace.export")
    return SpanWriter(export.BatchSpanProcessor(exporter.OTLPSpanExporter(endpoint=endpoint)), version)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingPackage(
            'spans need OpenTelemetry, which is not installed. Install it: pip install "cynosure[telemetry]".'
        ) from error


def _ns(seconds: float) -> int:
    return int(seconds * _NS_PER_S)
