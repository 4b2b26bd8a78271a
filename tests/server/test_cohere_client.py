"""Cohere's stock clients, of both versions, read our answers and our refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import cohere
import httpx
import pytest

from tests.server.fakes import serving
from tests.server.keyrings import guarded
from tests.server.rankers import FakeRanker, ranking

QUERY, DOCUMENTS = "pole star", ["a sailor", "the pole star", "a star"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: ranking(FakeRanker())) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[cohere.ClientV2]:
    # The clients close their connections only where these are given to them.
    with httpx.Client() as connections:
        yield cohere.ClientV2(api_key="none", base_url=url, httpx_client=connections)


def test_the_second_version_ranks(client: cohere.ClientV2) -> None:
    answer = client.rerank(model="fake-ranker", query=QUERY, documents=DOCUMENTS, top_n=2)
    assert [item.index for item in answer.results] == [1, 2]
    assert 1 > answer.results[0].relevance_score > answer.results[1].relevance_score > 0
    assert answer.id
    assert answer.meta is not None
    assert answer.meta.api_version is not None
    assert answer.meta.api_version.version == "2"
    assert answer.meta.tokens is not None
    assert answer.meta.tokens.input_tokens == 13


def test_the_first_version_ranks_and_gives_documents_back(url: str) -> None:
    documents = [{"text": text} for text in DOCUMENTS]
    with httpx.Client() as connections:
        client = cohere.Client(api_key="none", base_url=url, httpx_client=connections)
        answer = client.rerank(model="fake-ranker", query=QUERY, documents=documents, return_documents=True)
    assert [item.index for item in answer.results] == [1, 2, 0]
    assert answer.results[0].document is not None
    assert answer.results[0].document.text == DOCUMENTS[1]


def test_an_embedder_ranks_where_it_is_named(client: cohere.ClientV2) -> None:
    answer = client.rerank(model="fake-embedder", query="a b", documents=["c", "a b"])
    assert [item.index for item in answer.results] == [1, 0]
    assert answer.results[0].relevance_score == pytest.approx(1.0, abs=1e-6)


async def _ranked_async(url: str) -> list[int]:
    async with httpx.AsyncClient() as connections:
        client = cohere.AsyncClientV2(api_key="none", base_url=url, httpx_client=connections)
        answer = await client.rerank(model="fake-ranker", query=QUERY, documents=DOCUMENTS)
    return [item.index for item in answer.results]


def test_the_asynchronous_client_ranks(url: str) -> None:
    assert asyncio.run(_ranked_async(url)) == [1, 2, 0]


def test_refusals_are_the_client_s_own_errors(client: cohere.ClientV2) -> None:
    with pytest.raises(cohere.BadRequestError) as refused:
        client.rerank(model="fake-ranker", query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=5)
    assert isinstance(refused.value.body, dict)
    assert "max_tokens_per_doc" in refused.value.body["message"]
    with pytest.raises(cohere.NotFoundError):
        client.rerank(model="absent", query=QUERY, documents=DOCUMENTS)


def test_a_wrong_key_is_the_client_s_own_error() -> None:
    with guarded() as url, httpx.Client() as connections:
        client = cohere.ClientV2(api_key="wrong", base_url=url, httpx_client=connections)
        with pytest.raises(cohere.UnauthorizedError):
            client.rerank(model="fake-ranker", query=QUERY, documents=DOCUMENTS)
