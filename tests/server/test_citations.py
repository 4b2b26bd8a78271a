"""Citations in the words of each protocol, whole and in a stream, and documents beside a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from cynosure.server.services import Services
from tests.server.chat_models import SOURCE
from tests.server.citing_models import SCRIPT, CitingModel, citing
from tests.server.fakes import FakeStore, serving

ANSWER = "".join(sentence for sentence, _ in SCRIPT)
FOX, OWL = "All about them. Foxes are red 🦊. Some are not.", "Owls sleep by day."
DOCUMENTS = [{"text": FOX, "title": "On foxes", "url": "https://foxes.example"}, {"text": OWL, "id": "1"}]
QUESTION = {"role": "user", "content": "What are they?"}
#: A template that quotes documents by itself.
QUOTING = (
    "{% for document in documents or [] %}<{{ document.title }}|{{ document.text }}>{% endfor %}" + SOURCE
)
#: One that has the word, and quotes nothing.
IDLE = "{# documents #}" + SOURCE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CitingModel:
    return citing(tmp_path_factory.mktemp("citing"))


@pytest.fixture(scope="module")
def url(model: CitingModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    quoting, idle = (citing(tmp_path_factory.mktemp("more"), source) for source in (QUOTING, IDLE))
    quoting.name, idle.name = "quoting", "idle"
    models = {one.name: one for one in (model, quoting, idle)}
    with serving(lambda _: Services({}, {"fake-docs": FakeStore()}, models, 1_700_000_000)) as address:
        yield address


def chat(url: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    body = {"model": "citing", "messages": [QUESTION], "documents": DOCUMENTS, "attention": {"citations": {}}}
    return httpx.post(f"{url}/v1/chat/completions", json=body | options, timeout=60).json()


def attention_of(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["choices"][0]["attention"]


def test_sentences_cite_the_sentences_that_they_are_from(url: str) -> None:
    answer = chat(url)
    first, last = attention_of(answer)["citations"]
    assert (first["start"], first["end"], first["text"]) == (0, 14, "Foxes are red.")
    [source] = first["sources"]
    assert (source["type"], source["id"], source["message"], source["part"]) == (
        "document",
        "doc:0",
        None,
        None,
    )
    assert FOX[source["start"] : source["end"]].strip() == "Foxes are red 🦊."
    assert 0.5 < source["score"] <= 1
    assert ANSWER[last["start"] : last["end"]] == "They sleep ☆."
    assert [one["id"] for one in last["sources"]] == ["doc:1"]


def test_citations_alone_are_told_where_no_level_is_asked(url: str) -> None:
    told = attention_of(chat(url))
    assert told["level"] == "off"
    assert "segments" not in told
    assert "tokens" not in told
    more = attention_of(chat(url, attention={"level": "summary", "citations": {}}))
    assert more["citations"] == told["citations"]
    assert {one["id"] for one in more["segments"]} >= {
        "doc:0.title",
        "doc:0#0",
        "doc:0#1",
        "doc:0#2",
        "doc:1",
    }


def test_whole_documents_may_be_cited(url: str) -> None:
    first, _ = attention_of(chat(url, attention={"citations": {"granularity": "part"}}))["citations"]
    [source] = first["sources"]
    assert (source["start"], source["end"]) == (0, len(FOX))


def test_nothing_is_cited_below_the_least_score(url: str) -> None:
    answer = chat(url, attention={"citations": {"min_score": 1}})
    assert attention_of(answer)["citations"] == []
    assert "annotations" not in answer["choices"][0]["message"]
    assert len(attention_of(chat(url, attention={"citations": {"min_score": 0}}))["citations"]) == 3


def test_no_more_sources_than_asked(url: str) -> None:
    told = attention_of(chat(url, attention={"citations": {"min_score": 0, "max_per_sentence": 2}}))
    assert [len(one["sources"]) for one in told["citations"]] == [2, 2, 2]


def test_the_stock_client_reads_annotations(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="citing",
            messages=[{"role": "user", "content": "What are they?"}],
            extra_body={"documents": DOCUMENTS, "attention": {"citations": {}}},
        )
    message = answer.choices[0].message
    assert message.annotations is not None
    fox, owl = (one.url_citation for one in message.annotations)
    assert (fox.title, fox.url) == ("On foxes", "https://foxes.example")
    assert (owl.title, owl.url) == ("doc:1", "doc:1")
    assert message.content is not None
    assert message.content[fox.start_index : fox.end_index] == "Foxes are red."
    # The message may be sent back as it came.
    again = chat(url, messages=[QUESTION, message.model_dump(exclude_none=True), QUESTION])
    assert "error" not in again


def test_in_a_stream_a_sentence_is_cited_when_it_has_ended(url: str) -> None:
    body = {"model": "citing", "messages": [QUESTION], "documents": DOCUMENTS, "stream": True}
    body["attention"] = {"citations": {}}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: {")]
    said, cited = "", []
    for choice in (choice for line in lines for choice in json.loads(line)["choices"]):
        said += choice["delta"].get("content") or ""
        for one in (choice.get("attention") or {}).get("citations") or ():
            assert said[one["start"] : one["end"]] == one["text"]
            assert choice["delta"]["annotations"]
            cited.append((one, said))
    whole = attention_of(chat(url))["citations"]
    assert [one for one, _ in cited] == whole
    assert cited[0][1] != ANSWER
    assert cited[1][1] == ANSWER


@pytest.mark.parametrize("name", ["citing", "quoting", "idle"])
def test_documents_are_read_whatever_the_template_knows(url: str, name: str) -> None:
    body = {"model": name, "messages": [QUESTION], "documents": DOCUMENTS[:1], "return_segments": True}
    told = httpx.post(f"{url}/tokenize", json=body, timeout=60).json()
    names = [one["name"] for one in told["segments"]]
    spans = [
        span
        for owner, span in zip(told["token_segments"], told["token_offsets"], strict=True)
        if told["segments"][owner]["path"] == "documents[0].text"
    ]
    assert spans[0][0] == 0
    assert spans[-1][1] == len(FOX)
    assert "doc:0" in names
    prompt = httpx.post(f"{url}/detokenize", json={"model": name, "tokens": told["tokens"]}).json()["prompt"]
    assert (f"<On foxes|{FOX}>" in prompt) == (name == "quoting")
    assert prompt.count(FOX) == 1


def test_documents_can_be_denied_and_quoted(url: str, model: CitingModel) -> None:
    chat(url, attention={"deny": ["doc:0"]})
    # Its title is denied with it.
    assert len(model.asked[-1].bias) == 2
    quoted = chat(url, grounding="verbatim", attention=None)
    assert "error" not in quoted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"documents": None}, "no document or result of a tool"),
        (
            {"documents": [{"text": "a", "id": "x"}, {"text": "b", "id": "x"}]},
            "two documents are called 'doc:x'",
        ),
        ({"documents": [{"text": ""}]}, "at least 1 item"),
        ({"documents": [{"text": "a", "contents": "b"}]}, "'contents' is not known"),
        ({"messages": [{"role": "system", "content": "Hi."}]}, "no message is his"),
        ({"attention": {"citations": {"min_score": 2}}}, "less than or equal to 1"),
    ],
)
def test_what_is_refused(url: str, options: dict[str, Any], words: str) -> None:
    assert words in chat(url, **options)["error"]["message"]


TEXT_DOCUMENTS: list[Any] = [
    {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": FOX},
        "title": "On foxes",
        "context": "A book.",
        "citations": {"enabled": True},
    },
    {
        "type": "document",
        "source": {
            "type": "content",
            "content": [{"type": "text", "text": OWL}, {"type": "text", "text": "B"}],
        },
        "citations": {"enabled": True},
    },
]


def asked_of(documents: list[Any]) -> dict[str, Any]:
    content = [*documents, {"type": "text", "text": "What are they?"}]
    return {"model": "citing", "max_tokens": 99, "messages": [{"role": "user", "content": content}]}


def test_messages_cite_places_of_documents(url: str) -> None:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        answer = client.messages.create(**asked_of(TEXT_DOCUMENTS))
    assert "".join(block.text for block in answer.content if block.type == "text") == ANSWER
    first, between, last = answer.content
    assert first.type == between.type == last.type == "text"
    assert first.citations is not None
    [place] = first.citations
    assert place.type == "char_location"
    assert FOX[place.start_char_index : place.end_char_index] == place.cited_text
    assert place.cited_text.strip() == "Foxes are red 🦊."
    assert (place.document_index, place.document_title) == (0, "On foxes")
    assert between.citations is None
    assert last.citations is not None
    [block] = last.citations
    assert block.type == "content_block_location"
    assert (block.document_index, block.start_block_index, block.end_block_index) == (1, 0, 1)
    assert block.cited_text == OWL


def test_streamed_messages_are_those_of_whole_ones(url: str) -> None:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        with client.messages.stream(**asked_of(TEXT_DOCUMENTS)) as stream:
            deltas = [event.delta.type for event in stream if event.type == "content_block_delta"]
            streamed = stream.get_final_message()
        whole = client.messages.create(**asked_of(TEXT_DOCUMENTS))
    assert deltas.count("citations_delta") == 2
    told = [(block.text, block.citations) for block in streamed.content if block.type == "text"]
    assert told == [(block.text, block.citations) for block in whole.content if block.type == "text"]


def test_messages_without_citations_stay_as_they_were(url: str) -> None:
    plain = [one | {"citations": {"enabled": False}} for one in TEXT_DOCUMENTS]
    body = httpx.post(f"{url}/v1/messages", json=asked_of(plain), timeout=60).json()
    assert body["content"] == [{"type": "text", "text": ANSWER}]
    assert "attention" not in body


def test_citing_some_documents_alone_is_refused(url: str) -> None:
    mixed = [TEXT_DOCUMENTS[0], TEXT_DOCUMENTS[1] | {"citations": None}]
    failure = httpx.post(f"{url}/v1/messages", json=asked_of(mixed), timeout=60).json()
    assert "enable them on all, or on none" in failure["error"]["message"]


def searched(url: str, **options: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    body = {
        "model": "citing",
        "input": "How?",
        "tools": [{"type": "file_search", "vector_store_ids": ["fake-docs"]}],
    }
    answer = httpx.post(f"{url}/v1/responses", json=body | options, timeout=60).json()
    [message] = [item for item in answer["output"] if item["type"] == "message"]
    return message["content"][0]["annotations"]


def test_responses_cite_the_files_that_sentences_are_from(url: str) -> None:
    all_of_them = searched(url)
    assert len(all_of_them) == 3
    [cited] = searched(url, attention={"citations": {}})
    assert (cited["type"], cited["index"]) == ("file_citation", len(ANSWER))
    assert cited["file_id"] == all_of_them[0]["file_id"]
    assert searched(url, attention={"citations": {"min_score": 1}}) == []
