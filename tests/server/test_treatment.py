"""Every route that generates treats a request as it asks: when, how exactly, with whose pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from cynosure.engine.page_selection import DEFAULT_CHECK_EVERY, PageSelection
from cynosure.engine.report import RequestReport
from cynosure.engine.session import Session
from cynosure.server.schemas.requests import SequenceReport
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving

HELLO = [{"role": "user", "content": "Hi."}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi."},
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
    "/v1/responses": {"input": "Hi."},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def url(model: ScriptedModel) -> Iterator[str]:
    with serving(lambda _: serves(model)) as address:
        yield address


def post(url: str, path: str, **more: object) -> httpx.Response:
    return httpx.post(f"{url}{path}", json={"model": "scripted", **ROUTES[path], **more})


@pytest.mark.parametrize("path", ROUTES)
def test_what_is_asked_reaches_the_engine(url: str, model: ScriptedModel, path: str) -> None:
    assert post(url, path).status_code == 200
    plain = model.asked[-1]
    assert (plain.priority, plain.deadline_ms, plain.is_reproducible) == (0, None, False)
    assert (plain.speculation, plain.session) == (None, None)
    assert post(url, path, priority=7, deadline_ms=9000, speculation=False).status_code == 200
    asked = model.asked[-1]
    assert (asked.priority, asked.deadline_ms, asked.speculation) == (7, 9000, False)
    assert plain.page_selection is None
    assert post(url, path, page_selection={"pages": 64}).status_code == 200
    assert model.asked[-1].page_selection == PageSelection(64, DEFAULT_CHECK_EVERY)
    assert post(url, path, page_selection={"pages": 4, "check_every": 1}).status_code == 200
    assert model.asked[-1].page_selection == PageSelection(4, 1)
    assert post(url, path, reproducible=True).status_code == 200
    assert model.asked[-1].is_reproducible
    assert post(url, path, prompt_cache_key="mine", prompt_cache_retention="24h").status_code == 200
    assert model.asked[-1].session == Session("mine", is_on_disk=True)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "fields",
    [
        {"priority": -1},
        {"priority": 101},
        {"deadline_ms": 0},
        {"reproducible": True, "speculation": True},
        {"reproducible": True, "prompt_cache_key": "mine"},
        {"speculation": "yes"},
        {"reproducible": True, "page_selection": {"pages": 64}},
        {"speculation": True, "page_selection": {"pages": 64}},
        {"page_selection": {"pages": 3}},
        {"page_selection": {}},
        {"page_selection": {"pages": 64, "check_every": 0}},
    ],
    ids=str,
)
def test_what_can_t_be_is_refused_by_name(url: str, path: str, fields: dict[str, object]) -> None:
    response = post(url, path, **fields)
    assert response.status_code == 400
    assert any(name in response.text for name in fields)


def test_stock_clients_send_them(url: str, model: ScriptedModel) -> None:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        client.messages.create(
            model="scripted", max_tokens=9, messages=[{"role": "user", "content": "Hi."}],
            extra_body={"priority": 3, "speculation": False},
        )  # fmt: skip
    assert (model.asked[-1].priority, model.asked[-1].speculation) == (3, False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as other:
        other.responses.create(
            model="scripted", input="Hi.", extra_body={"priority": 4, "deadline_ms": 60000}
        )
    assert (model.asked[-1].priority, model.asked[-1].deadline_ms) == (4, 60000)


def test_what_selected_pages_recall_is_told() -> None:
    report = RequestReport(num_page_choices=30, num_page_checks=2, recalled=0.99, least_recalled=0.8)
    told = SequenceReport.of(report, "").page_selection
    assert told is not None
    assert told.model_dump() == {"steps": 30, "checks": 2, "recalled": 0.99, "least_recalled": 0.8}
    assert SequenceReport.of(RequestReport(), "").page_selection is None


def test_guesses_are_told() -> None:
    told = SequenceReport.of(RequestReport(num_drafted=12, num_accepted=5), "")
    assert told.speculation.model_dump() == {"drafted": 12, "accepted": 5}
