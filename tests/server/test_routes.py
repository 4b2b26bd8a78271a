"""Routes over fakes: what they answer, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cynosure.core.errors import MissingPackage
from cynosure.server.runtime import Report
from cynosure.server.services import Services
from tests.server.fakes import MERGE_DOC, QUOTES, services, serving

ASK, EMBED, SEARCH = "/v1/ask", "/v1/embeddings", "/v1/vector_stores/fake-docs/search"
COMPLETE = "/v1/completions"
EMBED_OK = {"model": "fake-embedder", "input": "a b"}
COMPLETE_OK = {"model": "fake-completer", "prompt": "a b"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(lambda _: services()) as url, httpx.Client(base_url=url) as made:
        yield made


def test_an_answer_quotes_with_places_and_words(client: httpx.Client) -> None:
    body = client.post(ASK, json={"question": "merge sorted", "max_results": 2}).json()
    assert body["answered"] is True
    assert body["threshold"] == 0.5
    assert body["store"] == "fake-docs"
    assert body["timings_ms"]["total"] >= 0
    first = body["quotes"][0]
    assert first["text"] == MERGE_DOC
    assert (first["object"], first["start"], first["end"]) == ("heapq.merge", 0, 57)
    assert first["author"] == "retriever"
    assert first["attended"] == [{"start": 0, "end": 5, "weight": 1.0}]
    assert len(body["quotes"]) == 2


def test_nothing_fits_is_an_answer(client: httpx.Client) -> None:
    body = client.post(ASK, json={"question": "nothing like it"}).json()
    assert body["answered"] is False
    assert "0.5" in body["reason"]
    assert body["quotes"] == []


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (ASK, {}, "question", ["missing", "Add it"]),
        (ASK, {"question": ""}, None, ["empty"]),
        (ASK, {"question": "  \n"}, None, ["empty"]),
        (ASK, {"question": "x" * 3000}, None, ["3000", "2000", "Shorten"]),
        (ASK, {"question": "q", "top_k": 3}, "top_k", ["not known", "max_results"]),
        (ASK, {"question": 7}, "question", ["string", "7"]),
        (ASK, {"question": "q", "max_results": 0}, "max_results", ["greater than or equal to 1", "0"]),
        (ASK, {"question": "q", "max_results": "3"}, "max_results", ["integer", "'3'"]),
        (EMBED, EMBED_OK | {"input": []}, "input", ["at least 1"]),
        (EMBED, EMBED_OK | {"input": [""]}, None, ["empty"]),
        (EMBED, EMBED_OK | {"input": ["a", 1]}, "input", ["string"]),
        (EMBED, EMBED_OK | {"input": "a b c d e f g"}, None, ["7 tokens", "limit is 6"]),
        (EMBED, EMBED_OK | {"input": ["a"] * 2049}, "input", ["2048"]),
        (EMBED, EMBED_OK | {"input": [[1], [-1]]}, "input", ["greater than or equal to 0"]),
        (EMBED, EMBED_OK | {"input": [100]}, None, ["no such token"]),
        (EMBED, EMBED_OK | {"dimensions": 4}, None, ["dimensions is 4", "8"]),
        (EMBED, EMBED_OK | {"encoding_format": "hex"}, "encoding_format", ["'float' or 'base64'"]),
        (EMBED, EMBED_OK | {"owner": "me"}, "owner", ["not known"]),
        (SEARCH, {"query": []}, "query", ["at least 1"]),
        (SEARCH, {"query": "q", "max_num_results": 51}, "max_num_results", ["50"]),
        (SEARCH, {"query": "q", "filters": {"type": "eq"}}, "filters", ["missing"]),
        (SEARCH, {"query": "q", "rewrite_query": True}, "rewrite_query", ["False"]),
        (SEARCH, {"query": "q", "ranking_options": {"ranker": "x"}}, "ranking_options", ["'auto' or 'none'"]),
        (COMPLETE, COMPLETE_OK | {"prompt": []}, "prompt", ["at least 1"]),
        (COMPLETE, COMPLETE_OK | {"prompt": ""}, None, ["no tokens"]),
        (COMPLETE, COMPLETE_OK | {"prompt": ["a"] * 257}, "prompt", ["at most 256"]),
        (COMPLETE, COMPLETE_OK | {"max_tokens": -1}, "max_tokens", ["greater than or equal to 0"]),
        (COMPLETE, COMPLETE_OK | {"max_tokens": 10**7}, None, ["limit"]),
        (COMPLETE, COMPLETE_OK | {"temperature": -1}, "temperature", ["greater than or equal to 0"]),
        (COMPLETE, COMPLETE_OK | {"top_p": 1.5}, "top_p", ["less than or equal to 1", "1.5"]),
        (COMPLETE, COMPLETE_OK | {"n": 33}, "n", ["32", "33"]),
        (COMPLETE, COMPLETE_OK | {"logprobs": 21}, "logprobs", ["20", "21"]),
        (COMPLETE, COMPLETE_OK | {"stop": ["a"] * 17}, "stop", ["at most 16"]),
        (COMPLETE, COMPLETE_OK | {"stop": ""}, "stop", ["at least 1"]),
        (COMPLETE, COMPLETE_OK | {"stream_options": {"include_usage": True}}, None, ["stream"]),
        (COMPLETE, COMPLETE_OK | {"best": 1}, "best", ["not known"]),
    ],
)
def test_what_can_not_be_used_is_refused_by_name(
    client: httpx.Client, path: str, body: dict[str, object], param: str | None, words: list[str]
) -> None:
    response = client.post(path, json=body)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param, error
    assert all(word in error["message"] for word in words), error["message"]
    assert len(error["message"]) < 800


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EMBED, {"model": "gpt-9", "input": "a"}),
        (COMPLETE, {"model": "fake-embedder", "prompt": "a"}),
        ("/v1/vector_stores/vs_absent/search", {"query": "q"}),
        (ASK, {"question": "q", "store": "absent"}),
    ],
)
def test_what_is_not_here_is_said_with_what_is(
    client: httpx.Client, path: str, body: dict[str, object]
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "here: fake-" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"question": "\\ud800"}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client: httpx.Client, content: bytes) -> None:
    response = client.post(ASK, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_values_that_json_does_not_have_are_refused(client: httpx.Client) -> None:
    body = b'{"model": "fake-completer", "prompt": "a", "temperature": NaN}'
    response = client.post(COMPLETE, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "temperature"


@pytest.mark.parametrize("path", ["/v1/models?page=2", "/v1/vector_stores?limit=0", "/v1/vector_stores?x=1"])
def test_a_query_that_nobody_reads_is_refused(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 400


def test_an_unknown_address_and_method_have_the_shape(client: httpx.Client) -> None:
    absent = client.get("/v1/absent")
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "no_such_address")
    wrong = client.get(ASK)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "no_such_method")
    assert "POST" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fcore/errors.py"]
)
def test_nothing_but_the_page_s_files_is_given(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get("/static/page.js").status_code == 200


def test_stores_are_listed_in_pages(client: httpx.Client) -> None:
    body = client.get("/v1/vector_stores", params={"limit": 1}).json()
    assert [store["id"] for store in body["data"]] == ["fake-docs"]
    assert body["has_more"] is False
    assert client.get("/v1/vector_stores", params={"after": "fake-docs"}).json()["data"] == []
    assert client.get("/v1/vector_stores", params={"after": "absent"}).status_code == 404


def test_several_queries_keep_each_object_once(client: httpx.Client) -> None:
    body = client.post(SEARCH, json={"query": ["a", "b"], "ranking_options": {"score_threshold": 0.5}}).json()
    assert [result["filename"] for result in body["data"]] == ["heapq.merge", "sorted"]
    assert body["data"][0]["score"] == QUOTES[0].score
    assert body["search_query"] == ["a", "b"]


def test_twenty_at_a_time_get_what_each_gets_alone(client: httpx.Client) -> None:
    texts = [f"text {number}" for number in range(20)]

    def embed(text: str) -> list[float]:
        return client.post(EMBED, json=EMBED_OK | {"input": text}).json()["data"][0]["embedding"]

    alone = [embed(text) for text in texts]
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(embed, texts)) == alone
    assert len({tuple(vector) for vector in alone}) == 20


def test_work_waits_until_loading_is_done() -> None:
    may_end, reported = threading.Event(), threading.Event()

    def load(report: Report) -> Services:
        report("reading the documentation", 5, 9)
        reported.set()
        may_end.wait(20)
        return services()

    with serving(load, wait=False) as url:
        assert reported.wait(10)
        for path, body in ((ASK, {"question": "q"}), (EMBED, EMBED_OK), (COMPLETE, COMPLETE_OK)):
            response = httpx.post(url + path, json=body)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert response.json()["error"]["code"] == "loading"
            assert "reading the documentation, 5 of 9" in response.json()["error"]["message"]
        ready = httpx.get(f"{url}/ready")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "loading",
            "stage": "reading the documentation",
            "done": 5,
            "total": 9,
        }
        assert httpx.get(f"{url}/live").json() == {"status": "live"}
        assert httpx.get(url).status_code == 200
        may_end.set()


def test_a_failed_load_is_said() -> None:
    failed = threading.Event()

    def load(_: Report) -> Services:
        failed.set()
        raise MissingPackage("the embedder is not installed. Run pip.")

    with serving(load, wait=False) as url:
        assert failed.wait(10)
        body = httpx.get(f"{url}/ready").json()
        assert body["status"] == "failed"
        assert body["error"]["code"] == "missing_package"
