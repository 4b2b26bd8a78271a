"""Rerank over stand-ins: what Jina's clients and plain HTTP send and read, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.services import ScoreKind
from tests.server.fakes import serving, vector_of
from tests.server.keyrings import ANNA, bearer, guarded
from tests.server.rankers import FakeRanker, ranking

OK = {"model": "fake-ranker", "query": "pole star", "documents": ["a sailor", "the pole star", "a star"]}


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


class Judge(FakeRanker):
    """Says the contrary under another label than the one that orders."""

    def logit(self, reading: tuple[str, ...], label: str) -> float:
        sign = 1 if label == "relevant" else -1
        return sign * super().logit(reading, label)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    labelled = FakeRanker("labelled", ("good", "bad"), ScoreKind.SHARES)
    plain = FakeRanker("plain", kind=ScoreKind.NUMBERS)
    broken = FakeRanker("broken", shift=np.inf)
    judge = Judge("judge", ("no_answer", "relevant"))
    with (
        serving(lambda _: ranking(FakeRanker(), labelled, plain, broken, judge)) as url,
        httpx.Client(base_url=url) as made,
    ):
        yield made


def _results(client: httpx.Client, path: str = "/v1/rerank", **more: object) -> list[dict[str, object]]:
    response = client.post(path, json=OK | more)
    assert response.status_code == 200, response.text
    return response.json()["results"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_the_best_comes_first_with_its_chance(client: httpx.Client, path: str) -> None:
    body = client.post(path, json=OK).json()
    assert [set(item) for item in body["results"]] == [{"index", "relevance_score"}] * 3
    assert [item["index"] for item in body["results"]] == [1, 2, 0]
    assert [item["relevance_score"] for item in body["results"]] == pytest.approx(
        [_sigmoid(2), _sigmoid(1), _sigmoid(0)]
    )
    assert body["meta"] == {
        "api_version": {"version": path[2]},
        "tokens": {"input_tokens": 13, "output_tokens": 0},
    }
    assert body["usage"] == {"prompt_tokens": 13, "total_tokens": 13}
    assert body["model"] == "fake-ranker"


def test_of_several_labels_the_relevant_one_orders(client: httpx.Client) -> None:
    results = _results(client, model="judge")
    assert [item["index"] for item in results] == [1, 2, 0]
    assert results[0]["relevance_score"] == pytest.approx(_sigmoid(2))


def test_documents_may_be_objects_and_come_back(client: httpx.Client) -> None:
    documents = [{"text": "a sailor"}, "the pole star"]
    [first] = _results(client, documents=documents, return_documents=True, top_n=1)
    assert first["document"] == {"text": "the pole star"}
    assert "document" not in _results(client, documents=documents)[0]


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (3, 3), (9, 3), (None, 3)])
def test_so_many_are_returned_as_are_asked_for(client: httpx.Client, top_n: int | None, count: int) -> None:
    assert len(_results(client, top_n=top_n)) == count


def test_of_two_alike_the_first_comes_first(client: httpx.Client) -> None:
    assert [item["index"] for item in _results(client, documents=["x", "star", "y", "star"])] == [1, 3, 0, 2]


def test_a_checkpoint_s_own_numbers_stay_as_they_are(client: httpx.Client) -> None:
    assert [item["relevance_score"] for item in _results(client, model="plain")] == [2.0, 1.0, 0.0]


def test_an_embedder_ranks_by_cosine(client: httpx.Client) -> None:
    found = _results(client, model="fake-embedder")
    cosines = [float(vector_of(OK["query"]) @ vector_of(text)) for text in OK["documents"]]
    assert [item["index"] for item in found] == sorted(range(3), key=lambda index: -cosines[index])
    by_index = {item["index"]: item["relevance_score"] for item in found}
    np.testing.assert_allclose([by_index[index] for index in range(3)], cosines, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"documents": []}, 400, ["documents", "at least 1"]),
        ({"documents": ["x"] * 1001}, 400, ["documents", "at most 1000"]),
        ({"documents": [""]}, 400, ["documents", "at least 1"]),
        ({"documents": [{"text": "a", "title": "b"}]}, 400, ["title"]),
        ({"documents": [" "]}, 400, ["empty"]),
        ({"documents": ["x " * 50]}, 400, ["52 tokens", "limit is 40"]),
        ({"query": ""}, 400, ["query"]),
        ({"top_n": 0}, 400, ["top_n", "greater than or equal to 1"]),
        ({"max_tokens_per_doc": 100}, 400, ["max_tokens_per_doc", "None"]),
        ({"relevant_spans": {"mode": "enabled"}}, 400, ["relevant_spans", "'disabled'"]),
        ({"priority": 3}, 400, ["priority", "0"]),
        ({"best": 1}, 400, ["'best' is not known"]),
        ({"model": "labelled"}, 400, ["2 numbers", "good, bad"]),
        ({"model": "absent"}, 404, ["broken, fake-embedder, fake-ranker"]),
        ({"model": "fake-completer"}, 404, ["fake-ranker"]),
        ({"model": "broken"}, 500, ["not finite"]),
    ],
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_what_can_not_be_used_is_refused_in_both_shapes(
    client: httpx.Client, path: str, change: dict[str, object], status: int, words: list[str]
) -> None:
    response = client.post(path, json=OK | change)
    assert response.status_code == status, response.text
    body = response.json()
    assert body["message"] == body["error"]["message"]
    assert body["id"] == response.headers["X-Request-Id"]
    assert all(word in body["message"] for word in words), body["message"]


def test_a_stranger_is_refused_in_the_same_shape() -> None:
    with guarded() as url:
        refused = httpx.post(f"{url}/v2/rerank", json=OK)
        assert refused.status_code == 401
        assert "key" in refused.json()["message"]
        wrong = httpx.post(f"{url}/v2/rerank", json=OK, headers=bearer("nobody"))
        assert wrong.json()["error"]["code"] == "invalid_api_key"


def test_what_is_read_is_paid_for() -> None:
    admission = Admission(KeyRing(parse_keys(f"anna:{ANNA} tpm=20\n", "the test")))
    with serving(lambda _: ranking(FakeRanker()), admission=admission) as url:
        first = httpx.post(f"{url}/v1/rerank", json=OK | {"documents": ["a b"] * 5}, headers=bearer(ANNA))
        assert first.json()["usage"]["total_tokens"] == 20
        second = httpx.post(f"{url}/v1/rerank", json=OK, headers=bearer(ANNA))
        assert second.status_code == 429
        assert int(second.headers["Retry-After"]) > 0
        assert "message" in second.json()


def test_models_are_listed_with_their_kind(client: httpx.Client) -> None:
    kinds = {model["id"]: model["kind"] for model in client.get("/v1/models").json()["data"]}
    assert kinds["fake-ranker"] == "ranking"
    assert kinds["fake-embedder"] == "embedding"
