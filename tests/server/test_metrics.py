"""What a server counts, times and logs over HTTP; and that none of it holds content."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest

from cynosure.engine.sampling import SamplingParams
from cynosure.observe.load import EngineLoad
from cynosure.observe.logs import JsonLines, TextLines
from cynosure.observe.metrics import ServingMetrics
from cynosure.server.records.metering import MeteredCompleter
from cynosure.server.services import Generation, Token, Tokens
from cynosure.server.visit import Visit, request_id_of
from tests.observe.test_metrics import values
from tests.server.fakes import FakeCompleter, services, serving
from tests.server.keyrings import ADMIN, ANNA, FakeClock, bearer, guarded

COMPLETE = {"model": "fake-completer", "prompt": "a b", "max_tokens": 3}
MODEL = "{model_name=fake-completer}"


def _scraped(url: str, headers: dict[str, str] | None = None) -> dict[str, float]:
    response = httpx.get(f"{url}/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    found = {}
    for line in response.text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.replace('"', "")] = float(value)
    return found


def _finished(url: str, reason: str) -> float:
    return _scraped(url)[
        f"cynosure_request_success_total{{finished_reason={reason},model_name=fake-completer}}"
    ]


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def url() -> Iterator[str]:
    completer = FakeCompleter(pause_s=0.002, load=EngineLoad(3, 2, 0.5, 64, 32))
    with serving(lambda _: services(completer)) as address:
        yield address


def test_what_is_served_is_counted(url: str) -> None:
    before = _scraped(url)
    assert before[f"cynosure_generation_tokens_total{MODEL}"] == 0
    httpx.post(f"{url}/v1/completions", json=COMPLETE)
    with httpx.stream("POST", f"{url}/v1/completions", json=COMPLETE | {"stream": True}) as response:
        response.read()
    httpx.post(f"{url}/v1/embeddings", json={"model": "fake-embedder", "input": ["a b", "c"]})
    httpx.post(f"{url}/v1/completions", json=COMPLETE | {"model": "no-such-model"})
    found = _scraped(url)
    assert found[f"cynosure_prompt_tokens_total{MODEL}"] == 4
    assert found["cynosure_prompt_tokens_total{model_name=fake-embedder}"] == 3
    assert found[f"cynosure_generation_tokens_total{MODEL}"] == 6
    assert found[f"cynosure_time_to_first_token_seconds_count{MODEL}"] == 2
    assert found[f"cynosure_time_per_output_token_seconds_count{MODEL}"] == 4
    assert found[f"cynosure_e2e_request_latency_seconds_count{MODEL}"] == 2
    assert found[f"cynosure_e2e_request_latency_seconds_sum{MODEL}"] >= 0.012
    assert found[f"cynosure_num_requests_running{MODEL}"] == 3
    assert found[f"cynosure_kv_cache_usage_perc{MODEL}"] == 0.5
    assert _finished(url, "length") == 2
    assert found["cynosure_http_responses_total{status=404}"] == 1
    assert not [name for name in found if "no-such-model" in name]


def test_labels_do_not_grow_with_what_is_sent(url: str) -> None:
    httpx.post(f"{url}/v1/completions", json=COMPLETE)
    httpx.get(f"{url}/absent")
    before = set(_scraped(url))
    for number in range(20):
        httpx.get(f"{url}/absent/{number}?q={number}", headers={"X-Request-Id": f"id-{number}"})
        httpx.post(f"{url}/v1/completions", json=COMPLETE | {"model": f"m{number}", "owner": f"u{number}"})
        httpx.request(f"M{number}", f"{url}/live")
    new = set(_scraped(url)) - before
    statuses = {name.partition("{")[2] for name in new}
    assert statuses <= {"status=404}", "status=400}", "status=405}"}


def test_an_answer_that_a_stop_string_ends_has_stopped_and_one_that_is_left_is_aborted(url: str) -> None:
    httpx.post(f"{url}/v1/completions", json=COMPLETE | {"max_tokens": 1000, "stop": "2"})
    assert _finished(url, "stop") == 1
    long = COMPLETE | {"max_tokens": 10_000}
    with httpx.stream("POST", f"{url}/v1/completions", json=long | {"stream": True}) as response:
        assert response.status_code == 200
    _until(lambda: _finished(url, "abort") == 1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json=long, timeout=0.1)
    _until(lambda: _finished(url, "abort") == 2)
    assert _finished(url, "stop") == 1


def test_one_that_breaks_is_an_error() -> None:
    with serving(lambda _: services(FakeCompleter(fails_at=1))) as url:
        httpx.post(f"{url}/v1/completions", json=COMPLETE)
        assert _finished(url, "error") == 1


def test_times_are_from_arrival_and_from_token_to_token() -> None:
    clock = FakeClock(10.0)
    metrics = ServingMetrics()
    visit = Visit("id", 8.0, tenant="")
    model = MeteredCompleter(FakeCompleter(), visit, metrics.of_model("fake-completer"), clock)

    async def run() -> None:
        asked = Generation((1, 2), SamplingParams(max_tokens=3))
        async for _ in (token async for together in model.complete(asked) for token in together):
            clock.pass_s(0.5)

    asyncio.run(run())
    found = values(metrics)
    assert found[f"cynosure_time_to_first_token_seconds_sum{MODEL}"] == pytest.approx(2.0)
    assert found[f"cynosure_time_per_output_token_seconds_sum{MODEL}"] == pytest.approx(1.0)
    assert found[f"cynosure_e2e_request_latency_seconds_sum{MODEL}"] == pytest.approx(3.5)
    assert (visit.num_prompt_tokens, visit.num_tokens, visit.finish) == (2, 3, "length")


class Together(FakeCompleter):
    """Gives a first token, then three at a time."""

    async def _tokens(self, token_ids: Sequence[int], count: int) -> Tokens:
        yield [Token("a", token_id=1)]
        yield [Token("b", token_id=2), Token("", token_id=3), Token("c", token_id=4)]
        yield [Token("", "stop")]


def test_tokens_that_come_together_share_the_time_that_passed() -> None:
    clock = FakeClock(10.0)
    metrics = ServingMetrics()
    visit = Visit("id", 9.0, tenant="")
    model = MeteredCompleter(Together(), visit, metrics.of_model("fake-completer"), clock)

    async def run() -> None:
        async for together in model.complete(Generation((1, 2), SamplingParams(max_tokens=9))):
            for _ in together:
                pass
            clock.pass_s(0.6)

    asyncio.run(run())
    found = values(metrics)
    name = "cynosure_time_per_output_token_seconds"
    assert found[f"{name}_count{MODEL}"] == 3
    assert found[f"{name}_sum{MODEL}"] == pytest.approx(0.6)
    # Three of 0.2 s, and not two of none and one of all.
    assert found[f"{name}_bucket{{le=0.3,model_name=fake-completer}}"] == 3
    assert found[f"{name}_bucket{{le=0.15,model_name=fake-completer}}"] == 0
    assert (visit.num_tokens, visit.finish, visit.first_token_s) == (4, "stop", 10.0)


def test_a_route_can_not_choose_the_tenant() -> None:
    metrics = ServingMetrics().of_model("m")
    model = MeteredCompleter(FakeCompleter(), Visit("id", 0.0, tenant="a"), metrics, FakeClock())
    with pytest.raises(AssertionError, match="settled"):
        model.complete(Generation((1,), SamplingParams(max_tokens=1)), "b")
    nobody = MeteredCompleter(FakeCompleter(), Visit("id", 0.0), metrics, FakeClock())
    with pytest.raises(AssertionError, match="nobody was admitted"):
        nobody.complete(Generation((1,), SamplingParams(max_tokens=1)))


@pytest.mark.parametrize("given", ["a", "req_011CT", "00-4bf92f-01", "a.b:c_d", "x" * 128])
def test_a_request_id_that_is_plain_is_echoed(url: str, given: str) -> None:
    for path in ("/live", "/v1/models", "/absent"):
        headers = httpx.get(url + path, headers={"X-Request-Id": given}).headers
        assert headers["X-Request-Id"] == headers["Request-Id"] == given


@pytest.mark.parametrize("given", ["", " ", "-a", "x" * 129, "a b", 'a"b', "a\tb", "\u00e9", "a;b", "../a"])
def test_any_other_is_replaced(url: str, given: str) -> None:
    made = request_id_of(given)
    assert made.startswith("req-")
    assert made != request_id_of(given)
    headers = {"X-Request-Id": given.encode()} if given.strip() else {}
    assert httpx.get(f"{url}/live", headers=headers).headers["X-Request-Id"].startswith("req-")


@pytest.fixture
def logged() -> Iterator[dict[str, io.StringIO]]:
    """Everything that is logged at any level, in both formats."""
    root = logging.getLogger()
    streams = {"json": io.StringIO(), "text": io.StringIO()}
    handlers = []
    for formatter, stream in zip((JsonLines(), TextLines()), streams.values(), strict=True):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        root.addHandler(handler)
        handlers.append(handler)
    ours = logging.getLogger("cynosure")
    level = ours.level
    ours.setLevel(logging.DEBUG)
    yield streams
    ours.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)


def _entries(logged: dict[str, io.StringIO]) -> list[dict[str, object]]:
    return [json.loads(line) for line in logged["json"].getvalue().splitlines()]


def test_a_request_is_one_line_with_its_numbers(logged: dict[str, io.StringIO]) -> None:
    with guarded() as url:
        headers = bearer(ANNA) | {"X-Request-Id": "mine"}
        httpx.post(f"{url}/v1/completions", json=COMPLETE, headers=headers)
        httpx.get(f"{url}/v1/models/fake-completer", headers=headers)
        httpx.get(f"{url}/v1/models")
        httpx.get(f"{url}/live")
    completed, described, refused = [entry for entry in _entries(logged) if entry["level"] == "info"]
    assert len(str(completed.pop("tenant"))) == 32
    assert float(str(completed.pop("duration_s"))) > 0
    assert float(str(completed.pop("first_token_s"))) > 0
    del completed["time"]
    assert completed == {
        "level": "info",
        "logger": "cynosure.server.records.journal",
        "message": "request",
        "request_id": "mine",
        "method": "POST",
        "route": "/v1/completions",
        "status": 200,
        "model": "fake-completer",
        "prompt_tokens": 2,
        "cached_tokens": 0,
        "completion_tokens": 3,
        "finished_reason": "length",
    }
    assert described["route"] == "/v1/models/{name:path}"
    assert (refused["status"], "tenant" in refused, "route" in refused) == (401, False, False)


def test_no_content_no_key_and_no_name_is_in_any_log_or_metric(logged: dict[str, io.StringIO]) -> None:
    canary = "canary-in-a-coal-mine"
    lines = f"{canary}:{canary}-{ANNA} rpm=1000\noperator:{ADMIN} admin\n"
    completer = FakeCompleter(fails_at=1, fails_with=f"broke on {canary}")
    with guarded(lines, completer) as url, httpx.Client(base_url=url) as client:
        for headers in (bearer(f"{canary}-{ANNA}"), bearer(f"{canary}-wrong"), {"x-api-key": canary}, {}):
            sent = headers | {"X-Canary": canary, "User-Agent": canary, "X-Request-Id": f"{canary} {canary}"}
            for body in (COMPLETE, COMPLETE | {"stream": True}, COMPLETE | {canary: canary}):
                client.post(f"/v1/completions?{canary}=1", json=body, headers=sent)
                client.post("/v1/completions", json=body | {"prompt": canary}, headers=sent)
                client.post("/v1/completions", json=body | {"model": canary}, headers=sent)
            client.post("/v1/ask", json={"question": canary}, headers=sent)
            client.post("/v1/embeddings", json={"model": "fake-embedder", "input": canary}, headers=sent)
            client.post(
                "/v1/ask", content=canary.encode(), headers=sent | {"Content-Type": "application/json"}
            )
            client.post(f"/v1/vector_stores/{canary}/search", json={"query": canary}, headers=sent)
            client.get(f"/v1/models/{canary}?{canary}", headers=sent)
            client.get(f"/{canary}", headers=sent)
            client.request(canary.upper().replace("-", ""), f"/{canary}", headers=sent)
        metrics = client.get("/metrics", headers=bearer(ADMIN)).text
    written = logged["json"].getvalue() + logged["text"].getvalue() + metrics
    assert 'cynosure_generation_tokens_total{model_name="fake-completer"}' in metrics
    assert "ZeroDivisionError" in written, "a failure of the inside was logged"
    assert len(_entries(logged)) > 50
    assert "canary" not in written.lower()
    assert "operator" not in written
    assert ADMIN not in written


def test_the_canary_would_be_seen(logged: dict[str, io.StringIO]) -> None:
    """The positive control: both formats do write what a message holds."""
    logging.getLogger("cynosure.server.test").info("a canary")
    assert all("canary" in stream.getvalue() for stream in logged.values())
