"""Spans carry the conventions' names, and OpenTelemetry is imported only where it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from cynosure.core.errors import MissingPackage
from cynosure.observe import spans
from cynosure.observe.spans import NAMES, Phase, RequestSpan, SpanWriter, otlp_writer

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def written(told: RequestSpan) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    writer = SpanWriter(SimpleSpanProcessor(exporter))
    writer.write(told)
    writer.close()
    return list(exporter.get_finished_spans())


TOLD = RequestSpan(
    name="chat tiny",
    start_s=100.0,
    end_s=103.5,
    fields={"operation": "chat", "request_model": "tiny", "input_tokens": 7, "seed": None, "status": 200},
    phases=(Phase("cynosure.prefill", 100.5, 101.0), Phase("cynosure.decode", 101.0, 103.0)),
    headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
)


def test_a_request_is_a_span_with_its_phases_under_the_caller_s() -> None:
    prefill, decode, whole = written(TOLD)
    assert (whole.name, whole.kind, whole.start_time, whole.end_time) == (
        "chat tiny",
        SpanKind.SERVER,
        100_000_000_000,
        103_500_000_000,
    )
    assert whole.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 7,
        "http.response.status_code": 200,
    }
    assert whole.context is not None
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    assert whole.status.status_code is StatusCode.UNSET
    for phase in (prefill, decode):
        assert phase.parent is not None
        assert phase.parent.span_id == whole.context.span_id
    assert decode.end_time == 103_000_000_000
    assert whole.resource.attributes["service.name"] == "cynosure"


def test_a_failure_is_an_error() -> None:
    (whole,) = written(RequestSpan("POST /v1/ask", 1.0, 2.0, {"error": "EngineFault"}, is_failed=True))
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.attributes == {"error.type": "EngineFault"}


def test_the_operator_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "the pole star")
    (*_, whole) = written(TOLD)
    assert whole.resource.attributes["service.name"] == "the pole star"


def test_names_are_the_conventions_own() -> None:
    known = {
        value
        for module in (gen_ai_attributes, http_attributes, error_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    } | {"http.request.method", "http.route", "http.response.status_code"}
    ours = {name for name in NAMES.values() if not name.startswith("cynosure.")}
    assert ours <= known
    assert not {"gen_ai.system", "gen_ai.prompt", "gen_ai.usage.prompt_tokens"} & ours, "they are deprecated"


def test_nothing_is_imported_until_spans_are_wanted() -> None:
    # The web framework imports the API by itself, and no more.
    code = (
        "import sys, cynosure.observe.spans; print('opentelemetry' in sys.modules); "
        "import cynosure.server.app; print('opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(spans.importlib, "import_module", absent)
    with pytest.raises(MissingPackage, match="telemetry"):
        otlp_writer("http://127.0.0.1:1/v1/traces")
