"""The stock client of the API's author reads our answers; it checks their shape for us."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from tests.server.fakes import CREATED, MERGE_DOC, services, serving, vector_of


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        serving(lambda _: services()) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["fake-embedder", "fake-completer"]
    model = client.models.retrieve("fake-embedder")
    assert (model.object, model.created, model.owned_by) == ("model", CREATED, "local")
    with pytest.raises(openai.NotFoundError, match="absent"):
        client.models.retrieve("absent")


def test_embeddings_as_the_client_asks_by_default(client: openai.OpenAI) -> None:
    """By default it asks for base64 and decodes it."""
    answer = client.embeddings.create(model="fake-embedder", input=["a b", "c"])
    assert [item.index for item in answer.data] == [0, 1]
    np.testing.assert_array_equal(np.float32(answer.data[0].embedding), vector_of("a b"))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_in_either_encoding(client: openai.OpenAI, encoding: str) -> None:
    [item] = client.embeddings.create(model="fake-embedder", input="a", encoding_format=encoding).data
    given = item.embedding
    vector = np.frombuffer(base64.b64decode(given), "<f4") if isinstance(given, str) else np.float32(given)
    np.testing.assert_array_equal(vector, vector_of("a"))
    assert isinstance(given, str) == (encoding == "base64")


def test_embeddings_of_token_ids(client: openai.OpenAI) -> None:
    one = client.embeddings.create(model="fake-embedder", input=[1, 2], dimensions=8)
    many = client.embeddings.create(model="fake-embedder", input=[[1, 2], [3]])
    np.testing.assert_array_equal(np.float32(one.data[0].embedding), vector_of("w1 w2"))
    assert many.data[0].embedding == one.data[0].embedding
    assert len(many.data) == 2


def test_many_texts_keep_their_order(client: openai.OpenAI) -> None:
    texts = [f"text {number}" for number in range(150)]
    data = client.embeddings.create(model="fake-embedder", input=texts).data
    assert [item.index for item in data] == list(range(150))
    for text, item in zip(texts, data, strict=True):
        np.testing.assert_array_equal(np.float32(item.embedding), vector_of(text))


def test_vector_stores(client: openai.OpenAI) -> None:
    [store] = list(client.vector_stores.list())
    assert (store.id, store.status, store.file_counts.completed) == ("fake-docs", "completed", 3)
    assert client.vector_stores.retrieve("fake-docs").usage_bytes == 4096


def test_vector_store_search(client: openai.OpenAI) -> None:
    page = client.vector_stores.search("fake-docs", query="merge", max_num_results=2)
    assert page.object == "vector_store.search_results.page"
    results = list(page)
    assert [result.filename for result in results] == ["heapq.merge", "sorted"]
    assert results[0].content[0].text == MERGE_DOC
    assert results[0].score == 0.8
    assert results[0].attributes is not None
    assert results[0].attributes["start"] == 0
    assert results[0].attributes["author"] == "retriever"


def test_completions_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="fake-completer", prompt="a b", max_tokens=4)
    assert whole.choices[0].text == " 0 1 2 3"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4
    options = openai.types.chat.ChatCompletionStreamOptionsParam(include_usage=True)
    parts = list(
        client.completions.create(
            model="fake-completer", prompt="a b", max_tokens=4, stream=True, stream_options=options
        )
    )
    assert "".join(part.choices[0].text for part in parts if part.choices) == whole.choices[0].text
    assert parts[-1].usage == whole.usage


def test_refusals_are_the_client_s_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="fake-embedder", input="a", extra_body={"owner": "me"})
    assert refused.value.param == "owner"
    assert refused.value.code == "invalid_request"
