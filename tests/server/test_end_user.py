"""Whom a caller asks for is kept as a digest in log and audit, and changes nothing that is served."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from cynosure.guard import AuditLog, Policy, verify
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Services
from tests.server.chat_models import ScriptedModel, scripted
from tests.server.fakes import CREATED, FakeEmbedder, serving
from tests.server.keyrings import ANNA, BEN, LINES, bearer

KEY = b"k" * 32
HELLO = [{"role": "user", "content": "Hi."}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "scripted", "prompt": "Hi."},
    "/v1/chat/completions": {"model": "scripted", "messages": HELLO},
    "/v1/responses": {"model": "scripted", "input": "Hi."},
    "/v1/embeddings": {"model": "fake-embedder", "input": "Hi."},
    "/v1/messages": {"model": "scripted", "messages": HELLO, "max_tokens": 9},
}
NAME = "anna@example.org"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def url(model: ScriptedModel, log: Path) -> Iterator[str]:
    services = Services({"fake-embedder": FakeEmbedder()}, {}, {"scripted": model}, CREATED)
    admission = Admission(KeyRing(parse_keys(LINES, "the test")), b"s" * 32)
    writer = AuditWriter(AuditLog(log, KEY))
    try:
        oversight = Oversight(Policy(), writer)
        with serving(lambda _: services, admission=admission, oversight=oversight) as address:
            yield address
    finally:
        writer.close()


def named(path: str, name: str) -> dict[str, Any]:
    field = {"metadata": {"user_id": name}} if path == "/v1/messages" else {"user": name}
    return ROUTES[path] | field


def ask(url: str, path: str, body: dict[str, Any], key: str = ANNA) -> None:
    response = httpx.post(f"{url}{path}", json=body, headers=bearer(key))
    assert response.status_code == 200, response.text


def last(log: Path) -> str:
    return [json.loads(line)["record"] for line in log.read_text().splitlines()][-1]["end_user"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_person_is_the_same_digest_on_every_route(url: str, log: Path, path: str) -> None:
    ask(url, path, ROUTES[path])
    assert last(log) == ""
    ask(url, "/v1/completions", named("/v1/completions", NAME))
    expected = last(log)
    ask(url, path, named(path, NAME))
    assert last(log) == expected
    assert len(expected) == 32
    ask(url, path, named(path, "ben@example.org"))
    assert last(log) != expected
    ask(url, path, named(path, NAME), BEN)
    assert last(log) != expected, "two keys' people could be told to be one"
    assert NAME not in log.read_text()


def test_the_two_names_of_the_field_are_one(url: str, log: Path) -> None:
    path = "/v1/chat/completions"
    ask(url, path, named(path, NAME))
    expected = last(log)
    ask(url, path, ROUTES[path] | {"safety_identifier": NAME})
    assert last(log) == expected
    ask(url, path, ROUTES[path] | {"safety_identifier": NAME, "user": NAME})
    assert last(log) == expected
    ask(url, path, ROUTES[path] | {"user": ""})
    assert last(log) == ""


def test_the_model_reads_the_same(url: str, model: ScriptedModel) -> None:
    path = "/v1/chat/completions"
    ask(url, path, ROUTES[path])
    ask(url, path, named(path, NAME))
    assert model.asked[-1] == model.asked[-2]


def _has_end_user(caplog: pytest.LogCaptureFixture) -> bool:
    return any("end_user" in str(vars(record)) for record in caplog.records)


def test_the_log_line_has_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cynosure.server.records.journal"):
        ask(url, "/v1/completions", named("/v1/completions", NAME))
        # The line is written once the answer has gone out.
        deadline = time.monotonic() + 10
        while not _has_end_user(caplog) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert NAME not in caplog.text
    assert _has_end_user(caplog)


def test_anthropic_s_client_names_people(url: str, log: Path) -> None:
    with anthropic.Anthropic(base_url=url, api_key=ANNA, max_retries=0) as client:
        client.messages.create(
            model="scripted",
            max_tokens=9,
            messages=[{"role": "user", "content": "Hi."}],
            metadata={"user_id": NAME},
        )
    ours = last(log)
    ask(url, "/v1/completions", named("/v1/completions", NAME))
    assert last(log) == ours


def test_a_name_has_a_bound(url: str) -> None:
    for path in ROUTES:
        response = httpx.post(f"{url}{path}", json=named(path, "x" * 257), headers=bearer(ANNA))
        assert response.status_code == 400
        assert "256" in response.text


def test_the_chain_holds(url: str, log: Path) -> None:
    ask(url, "/v1/completions", named("/v1/completions", NAME))
    assert verify(log, KEY).is_intact
