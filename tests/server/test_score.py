"""`/score` over stand-ins, as vLLM's clients send and read it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from cynosure.server.services import ScoreKind
from tests.server.fakes import serving
from tests.server.rankers import FakeRanker, ranking


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    models = (FakeRanker(), FakeRanker("plain", kind=ScoreKind.NUMBERS))
    with serving(lambda _: ranking(*models)) as url, httpx.Client(base_url=url) as made:
        yield made


def _scores(client: httpx.Client, path: str, first: object, second: object) -> list[float]:
    response = client.post(path, json={"model": "plain", "text_1": first, "text_2": second})
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return [item["score"] for item in data]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a b", "b", [1.0]),
        ("a b", ["b"], [1.0]),
        ("a b", ["c", "a b", "b"], [0.0, 2.0, 1.0]),
        (["a b"], ["c", "a"], [0.0, 1.0]),
        (["a", "b"], ["a", "a"], [1.0, 0.0]),
    ],
)
def test_texts_are_paired(
    client: httpx.Client, path: str, first: object, second: object, expected: list[float]
) -> None:
    assert _scores(client, path, first, second) == expected


def test_the_answer_is_vllm_s(client: httpx.Client) -> None:
    body = client.post("/score", json={"model": "fake-ranker", "text_1": "a", "text_2": "a b"}).json()
    assert body["object"] == "list"
    assert body["data"][0] == {"index": 0, "object": "score", "score": float(1 / (1 + np.exp(-1.0)))}
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "completion_tokens": 0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text_1": ["a", "b"]}, ["text_1 has 2 texts and text_2 1"]),
        ({"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, ["2 texts", "3"]),
        ({"text_1": []}, ["text_1", "at least 1"]),
        ({"text_2": ""}, ["text_2", "at least 1"]),
        ({"truncate_prompt_tokens": 5}, ["truncate_prompt_tokens"]),
        ({"text_3": "a"}, ["not known"]),
    ],
)
def test_what_can_not_be_paired_is_refused(
    client: httpx.Client, change: dict[str, object], words: list[str]
) -> None:
    response = client.post("/score", json={"model": "plain", "text_1": "a", "text_2": "b"} | change)
    assert response.status_code == 400
    assert all(word in response.json()["error"]["message"] for word in words), response.text
