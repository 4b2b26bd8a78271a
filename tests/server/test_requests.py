"""A request can be explained by who sent it, and by an admin: times, pages, constraint, guard."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import torch
import transformers

from cynosure.cache import MatchEnd
from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import NotFound
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.records.visit_store import VisitStore
from cynosure.server.runtime import Report
from cynosure.server.schemas.requests import _PAGE_ENDS
from cynosure.server.services import Services
from cynosure.server.visit import Visit
from tests.guard import cases
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import FakeCompleter, services, serving
from tests.server.keyrings import ADMIN, ANNA, BEN, LINES, bearer

PROMPT = "the centre of attention is where the eyes of all are fixed, and the star is called cynosure; " * 2


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tiny random model in the real engine, behind keys."""
    torch.manual_seed(5)
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tiny")
    config = transformers.LlamaConfig(
        vocab_size=325, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=400, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(SOURCE)
    write(folder, byte_level())

    def load(_: Report) -> Services:
        completer = load_completer("tiny", folder, dtype="float32")
        return Services({}, {}, {"tiny": completer}, int(time.time()))

    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    with serving(load, wait_s=60, admission=admission) as address:
        yield address


def _complete(url: str, key: str = ANNA, **more: object) -> str:
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "ignore_eos": True} | more
    response = httpx.post(f"{url}/v1/completions", json=body, headers=bearer(key))
    assert response.status_code == 200, response.text
    return response.headers["X-Request-Id"]


def _explain(url: str, request_id: str, key: str = ANNA, status: int = 200) -> dict[str, object]:
    response = httpx.get(f"{url}/v1/requests/{request_id}/explain", headers=bearer(key))
    assert response.status_code == status, response.text
    return response.json()


def _until_ended(url: str, request_id: str, key: str = ANNA) -> dict[str, object]:
    deadline = time.monotonic() + 5
    while (told := _explain(url, request_id, key))["state"] == "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return told


def test_times_and_pages_are_told(url: str) -> None:
    first = _until_ended(url, _complete(url))
    assert (first["state"], first["status"], first["finish"]) == ("finished", 200, "length")
    tokens = first["tokens"]
    assert tokens["completion"] == 6
    (sequence,) = first["sequences"]
    assert sum(sequence["prefill_chunks"]) == tokens["prompt"]
    assert sequence["num_decode_steps"] == 5
    times = first["times"]
    parts = sequence["queue_s"] + sequence["prefill_s"] + sequence["decode_s"]
    assert 0 < sequence["prefill_s"] < parts <= times["total_s"]
    assert times["first_token_s"] <= times["total_s"]
    pages = sequence["pages"]
    assert pages["sought"] == (tokens["prompt"] - 1) // pages["page_size"] > 0
    assert (pages["found"], pages["why_no_more"]) == (0, "new_key")

    again = _until_ended(url, _complete(url))
    pages = again["sequences"][0]["pages"]
    assert pages["found"] == pages["sought"]
    assert pages["why_no_more"] == "prompt_end"
    assert again["tokens"]["cached"] == pages["found"] * pages["page_size"]

    changed = _until_ended(url, _complete(url, prompt="Another " + PROMPT))
    assert changed["sequences"][0]["pages"]["why_no_more"] == "new_tokens"
    exact = _until_ended(url, _complete(url, reproducible=True))
    assert "no page" in exact["sequences"][0]["pages"]["explanation"]


def test_every_end_of_a_match_is_explained() -> None:
    assert {end.value for end in MatchEnd} <= _PAGE_ENDS.keys()


def test_another_key_s_pages_are_not_told_of(url: str) -> None:
    _complete(url)
    told = _until_ended(url, _complete(url, BEN, prompt="Ben's " + PROMPT), BEN)
    mine = _until_ended(url, _complete(url, BEN), BEN)
    assert told["sequences"][0]["pages"]["why_no_more"] == "new_key"
    assert mine["sequences"][0]["pages"]["found"] == 0
    assert mine["sequences"][0]["pages"]["why_no_more"] == "new_tokens"


def test_only_its_sender_and_an_admin_may_ask(url: str) -> None:
    request_id = _complete(url)
    absent = _explain(url, "req-absent", BEN, status=404)
    refused = _explain(url, request_id, BEN, status=404)
    assert refused["error"]["message"].replace(request_id, "") == absent["error"]["message"].replace(
        "req-absent", ""
    )
    assert _explain(url, request_id, ADMIN)["id"] == request_id
    assert httpx.get(f"{url}/v1/requests/{request_id}/explain").status_code == 401


def test_constraints_and_what_they_decided(url: str) -> None:
    told = _until_ended(url, _complete(url, guided_choice=["qzxjq"], max_tokens=20))
    (sequence,) = told["sequences"]
    constraint = sequence["constraint"]
    assert constraint["kind"] == "choice"
    assert constraint["num_tokens"] == told["tokens"]["completion"]
    assert 0 < constraint["num_forced"] <= constraint["num_tokens"]
    assert told["times"]["constraint_s"] > 0


def test_the_guard_s_findings_are_told_without_what_was_found(url: str) -> None:
    told = _until_ended(url, _complete(url, prompt=f"pay {cases.CARD} to {cases.EMAIL}"))
    guard = told["guard"]
    assert {(one["direction"], one["kind"], one["action"], one["count"]) for one in guard["counts"]} >= {
        ("input", "card", "redact", 1),
        ("input", "email", "allow", 1),
    }
    found = guard["findings"][0]
    assert (found["place"], found["start"], found["end"]) == ("prompt", 4, 4 + len(cases.CARD))
    assert "4111" not in cases.without_ids(str(told))


def test_several_sequences_are_told_one_by_one(url: str) -> None:
    told = _until_ended(url, _complete(url, n=3, temperature=1))
    assert len(told["sequences"]) == 3


def test_a_refused_request_is_told_of_too(url: str) -> None:
    body = {"model": "tiny", "prompt": "x", "max_tokens": 9999}
    response = httpx.post(f"{url}/v1/completions", json=body, headers=bearer(ANNA))
    told = _until_ended(url, response.headers["X-Request-Id"])
    assert (told["state"], told["error"], told["sequences"]) == ("refused", "InputTooLong", [])


def test_a_request_under_way_runs() -> None:
    completer = FakeCompleter(pause_s=0.01, prefix=" w")
    with serving(lambda _: services(completer)) as address:
        body = {"model": "fake-completer", "prompt": "a", "max_tokens": 5000}
        headers = {"X-Request-Id": "mine"}

        def ask() -> None:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{address}/v1/completions", json=body, headers=headers, timeout=0.5)

        asking = threading.Thread(target=ask)
        asking.start()
        deadline = time.monotonic() + 5
        while True:
            assert time.monotonic() < deadline
            response = httpx.get(f"{address}/v1/requests/mine/explain")
            if response.status_code == 200 and response.json()["tokens"]["completion"]:
                break
        assert response.json()["state"] == "running"
        asking.join()
        while httpx.get(f"{address}/v1/requests/mine/explain").json()["state"] == "running":
            assert time.monotonic() < deadline
        assert httpx.get(f"{address}/v1/requests/mine/explain").json()["state"] == "cancelled"


def _visit(request_id: str, tenant: str, at_s: float = 0.0, *, is_admin: bool = False) -> Visit:
    return Visit(request_id, at_s, tenant, is_admin)


def test_the_latest_are_kept_of_each_tenant() -> None:
    store = VisitStore(max_kept=2)
    for number in range(3):
        store.add(_visit(f"r{number}", "a"))
    store.add(_visit("r0", "b", 5.0))
    asker = _visit("me", "a")
    with pytest.raises(NotFound, match="last 2"):
        store.find(asker, "r0")
    assert store.find(asker, "r2").request_id == "r2"
    assert store.find(_visit("me", "c", is_admin=True), "r0").tenant == "b"
    late = _visit("r1", "a", 9.0)
    store.add(late)
    assert store.find(asker, "r1") is late
