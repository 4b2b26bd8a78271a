"""What a server writes as spans: one a request, with numbers, under its caller's trace, and no content."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cynosure.engine.report import RequestReport
from cynosure.observe.spans import SpanWriter
from cynosure.server.records.oversight import Oversight
from cynosure.server.records.tracing import span_of
from cynosure.server.visit import Visit
from tests.guard import cases
from tests.server.fakes import FakeCompleter, services, serving

COMPLETE = {"model": "fake-completer", "prompt": "a b", "max_tokens": 3, "temperature": 0.5}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def url(exporter: InMemorySpanExporter) -> Iterator[str]:
    oversight = Oversight(spans=SpanWriter(SimpleSpanProcessor(exporter)))
    with serving(lambda _: services(FakeCompleter(prefix=" w")), oversight=oversight) as address:
        yield address
    oversight.close()


def test_a_completion_is_a_span_in_its_caller_s_trace(url: str, exporter: InMemorySpanExporter) -> None:
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-Id": "mine"}
    httpx.post(f"{url}/v1/completions", json=COMPLETE, headers=headers)
    httpx.get(f"{url}/live")
    (span,) = exporter.get_finished_spans()
    assert span.name == "text_completion fake-completer"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    attributes = dict(span.attributes or {})
    assert attributes.pop("gen_ai.response.time_to_first_chunk") > 0  # type: ignore[operator]
    assert attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "cynosure",
        "gen_ai.request.model": "fake-completer",
        "gen_ai.response.model": "fake-completer",
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "cynosure.request.id": "mine",
        "cynosure.num_preemptions": 0,
        "cynosure.prefix_cache.pages_found": 0,
        "cynosure.prefix_cache.pages_sought": 0,
    }


def test_no_content_is_in_a_span(url: str, exporter: InMemorySpanExporter) -> None:
    canary = "canary-in-a-coal-mine"
    for body in (COMPLETE | {"prompt": f"{canary} {cases.CARD}"}, COMPLETE | {canary: 1}):
        httpx.post(f"{url}/v1/completions?{canary}=1", json=body, headers={"User-Agent": canary})
        httpx.post(f"{url}/v1/completions", json=body | {"stop": canary})
    httpx.get(f"{url}/{canary}")
    deadline = time.monotonic() + 5
    while len(spans := exporter.get_finished_spans()) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    told = " ".join(span.to_json() for span in spans)
    assert "input card redact 1" in told
    assert canary not in told
    assert "4111" not in cases.without_ids(told)


def test_what_fails_is_an_error_by_its_class(exporter: InMemorySpanExporter) -> None:
    oversight = Oversight(spans=SpanWriter(SimpleSpanProcessor(exporter)))
    with serving(lambda _: services(FakeCompleter(fails_at=0)), oversight=oversight) as address:
        httpx.post(f"{address}/v1/completions", json=COMPLETE)
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "ZeroDivisionError"


def test_phases_follow_each_other_from_the_arrival() -> None:
    visit = Visit("mine", 50.0, tenant="", status=200, model="tiny")
    visit.reports.append(RequestReport(queue_s=0.5, prefill_s=1.0, decode_s=2.0))
    scope = {"type": "http", "method": "POST", "headers": []}
    span = span_of(scope, visit, 54.0)
    assert [phase.name for phase in span.phases] == ["cynosure.queue", "cynosure.prefill", "cynosure.decode"]
    assert span.phases[0].start_s == span.start_s
    assert span.phases[-1].end_s == pytest.approx(span.start_s + 3.5)
    assert span.end_s - span.start_s == pytest.approx(4.0)
