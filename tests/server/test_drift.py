"""`/v1/drift` and the `attn_*` metrics of a server: who may read them, and that answers reach them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.records.oversight import Oversight
from tests.insight.drift_world import answers
from tests.server.fakes import serving
from tests.server.keyrings import ADMIN, ANNA, bearer, guarded
from tests.server.served_tiny import CHAT, tiny_services

ASKED = {"model": CHAT, "messages": [{"role": "user", "content": "Tell."}], "max_tokens": 3}


@pytest.fixture(scope="module")
def board() -> DriftBoard:
    board = DriftBoard()
    for answer in answers(1, 500):
        board.add("org/model", "cafe", answer, 0.0)
    return board


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, board: DriftBoard) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny")
    with serving(lambda _: tiny_services(folder), wait_s=60, oversight=Oversight(drift=board)) as address:
        yield address


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_board_is_drawn_and_a_reference_frozen(url: str, board: DriftBoard) -> None:
    told = httpx.get(f"{url}/v1/drift").json()
    assert (told["object"], told["window"], told["min_reference"]) == ("drift", 200, 500)
    model = next(one for one in told["models"] if one["model"] == "org/model")
    assert (model["state"], model["num_answers"], model["reference"]) == ("collecting", 500, None)
    frozen = httpx.post(f"{url}/v1/drift/reference", json={"model": "org/model"}, timeout=60).json()
    assert frozen["num_answers"] == 500
    assert not frozen["is_kept"]
    for answer in answers(2, 60):
        board.add("org/model", "cafe", answer, 1.0)
    told = httpx.get(f"{url}/v1/drift").json()
    model = next(one for one in told["models"] if one["model"] == "org/model")
    assert (model["state"], model["num_answers"]) == ("watching", 60)
    assert model["reference"] == frozen
    assert len(model["features"]) == 16


def test_what_cannot_be_frozen_is_refused(url: str) -> None:
    unknown = httpx.post(f"{url}/v1/drift/reference", json={"model": "none"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
    odd = httpx.post(f"{url}/v1/drift/reference", json={"model": "none", "window": 3})
    assert odd.status_code == 400
    assert httpx.get(f"{url}/v1/drift?model=x").status_code == 400


def test_a_watched_answer_reaches_metrics_and_board(url: str) -> None:
    asked = ASKED | {"attention": {"level": "summary"}}
    assert httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).status_code == 200
    assert httpx.post(f"{url}/v1/chat/completions", json=ASKED, timeout=60).status_code == 200

    def is_counted() -> bool:
        text = httpx.get(f"{url}/metrics").text
        return f'cynosure_attn_answers_total{{model_name="{CHAT}"}} 1.0' in text

    until(is_counted)
    text = httpx.get(f"{url}/metrics").text
    assert 'cynosure_attn_capture_seconds_total{sink="AttentionDesk"}' in text
    models = {one["model"]: one for one in httpx.get(f"{url}/v1/drift").json()["models"]}
    assert models[CHAT]["num_answers"] == 1


def test_only_an_admin_reads_the_board() -> None:
    with guarded() as url:
        for method, path, body in (
            ("GET", "/v1/drift", None),
            ("POST", "/v1/drift/reference", {"model": "m"}),
        ):
            assert httpx.request(method, f"{url}{path}", json=body, headers=bearer(ANNA)).status_code == 403
            assert httpx.request(method, f"{url}{path}", json=body, headers=bearer(ADMIN)).status_code != 403
