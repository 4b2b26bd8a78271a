"""`attention` on /v1/embeddings and /v1/rerank: which words an encoder attended to, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from cynosure.server.answers.evidence import MAX_TEXTS
from tests.server.fakes import serving
from tests.server.rankers import FakeRanker, ranking

SUMMARY = {"level": "summary"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: ranking(FakeRanker())) as address:
        yield address


def embed(url: str, texts: list[str], **options: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/embeddings", json={"model": "fake-embedder", "input": texts} | options)


def rerank(url: str, model: str = "fake-ranker", **options: object) -> httpx.Response:
    body = {"model": model, "query": "pole star", "documents": ["the moon", "the pole star 🦊", "a star"]}
    return httpx.post(f"{url}/v1/rerank", json=body | options)


def test_vectors_say_what_they_attended_to(url: str) -> None:
    told = embed(url, ["naïve fox", "one"], attention=SUMMARY).json()["data"]
    assert [one["attention"]["words"] for one in told] == [
        [{"start": 0, "end": 5, "weight": 1.0}],
        [{"start": 0, "end": 3, "weight": 1.0}],
    ]
    shares = told[0]["attention"]
    assert shares["word_share"] + shares["mark_share"] + shares["sink_share"] == pytest.approx(1)
    assert "last layer" in shares["coverage"]["reason"]


def test_it_is_not_there_where_nobody_asks_and_changes_no_vector(url: str) -> None:
    plain = embed(url, ["one"]).json()["data"][0]
    assert "attention" not in plain
    assert "attention" not in embed(url, ["one"], attention={"level": "off"}).json()["data"][0]
    watched = embed(url, ["one"], attention=SUMMARY).json()["data"][0]
    assert watched["embedding"] == plain["embedding"]


def test_ranks_say_what_they_attended_to_from_the_query(url: str) -> None:
    results = rerank(url, attention=SUMMARY, top_n=2).json()["results"]
    assert [one["index"] for one in results] == [1, 2]
    texts = ["the pole star 🦊", "a star"]
    told = [
        sorted(text[word["start"] : word["end"]] for word in one["attention"]["words"])
        for text, one in zip(texts, results, strict=True)
    ]
    assert told == [["pole", "star"], ["star"]]
    assert "attention" not in rerank(url).json()["results"][0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda url: embed(url, ["a"] * (MAX_TEXTS + 1), attention=SUMMARY), "65 inputs; the limit is 64"),
        (lambda url: rerank(url, documents=["a"] * 65, attention=SUMMARY), "65 ranked documents"),
        (
            lambda url: rerank(url, model="fake-embedder", attention=SUMMARY),
            "reads query and documents apart",
        ),
        (lambda url: embed(url, ["a"], attention={"level": "full"}), "summary"),
        (lambda url: embed(url, ["a"], attention={"level": "summary", "heads": "auto"}), "heads"),
    ],
)
def test_what_is_refused(url: str, answer: object, words: str) -> None:
    assert callable(answer)
    response = answer(url)
    assert response.status_code in (400, 422)
    assert words in response.text


def test_few_of_many_documents_may_be_told_of(url: str) -> None:
    results = rerank(url, documents=["star"] * 65, attention=SUMMARY, top_n=3).json()["results"]
    assert len(results) == 3
    assert all("attention" in one for one in results)
