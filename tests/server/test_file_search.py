"""`file_search` of `/v1/responses` through the stock client: what is searched, shown, and cited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseFileSearchToolCall, ResponseOutputMessage
from openai.types.responses.response_output_text import AnnotationFileCitation

from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import FakeStore, serving
from tests.server.keyrings import ANNA, BEN, LINES
from tests.server.libraries import SETTINGS, with_library

BREAD = b"# Sourdough\n\nFeed the starter daily.\n\n## Baking\n\nBake at 230 degrees.\n"
TRIP = b"The ferry to Naxos leaves at noon.\n"
ASKED = "bake at how many degrees?"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def url(made: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    services = replace(serves(made), stores={"fake-docs": FakeStore()})
    services = with_library(services, tmp_path_factory.mktemp("files"))
    with serving(lambda _: services, SETTINGS) as address:
        yield address


@pytest.fixture
def model(made: ScriptedModel) -> ScriptedModel:
    made.answer = "At 230."
    made.prompts.clear()
    made.sampled.clear()
    return made


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def filled(client: openai.OpenAI) -> tuple[str, dict[str, str]]:
    """A store of two files, and their ids by name."""
    store, ids = client.vector_stores.create().id, {}
    for name, content in (("bread.md", BREAD), ("trip.txt", TRIP)):
        done = client.vector_stores.files.upload_and_poll(
            vector_store_id=store, file=(name, content), attributes={"name": name}, poll_interval_ms=5
        )
        assert done.status == "completed"
        ids[name] = done.id
    return store, ids


@pytest.fixture(scope="module")
def kept(client: openai.OpenAI) -> tuple[str, dict[str, str]]:
    return filled(client)


@pytest.fixture
def store(kept: tuple[str, dict[str, str]]) -> str:
    return kept[0]


@pytest.fixture
def ids(kept: tuple[str, dict[str, str]]) -> dict[str, str]:
    return kept[1]


def asked(store: str, **more: object) -> dict[str, Any]:
    tool: dict[str, object] = {"type": "file_search", "vector_store_ids": [store]} | more
    return {"model": "scripted", "input": ASKED, "tools": [tool]}


def prompt_of(model: ScriptedModel) -> str:
    return model.tokenizer.decode(model.prompts[-1], skip_special_tokens=False)


def parts(answer: Response) -> tuple[ResponseFileSearchToolCall, ResponseOutputMessage]:
    search, message = answer.output
    assert search.type == "file_search_call"
    assert message.type == "message"
    return search, message


def citations(answer: Response) -> list[tuple[int, str, str]]:
    [text] = parts(answer)[1].content
    assert text.type == "output_text"
    found = []
    for one in text.annotations:
        assert isinstance(one, AnnotationFileCitation)
        found.append((one.index, one.file_id, one.filename))
    return found


def test_what_is_found_stands_before_the_question_and_is_cited(
    client: openai.OpenAI, model: ScriptedModel, store: str, ids: dict[str, str]
) -> None:
    answer = client.responses.create(**asked(store, max_num_results=2))
    search, message = parts(answer)
    assert (search.status, search.queries, search.results) == ("completed", [ASKED], None)
    assert message.status == "completed"
    assert prompt_of(model) == (
        "<|im_start|>user\nThese passages were found in files, each behind its number:\n"
        "[1] bread.md\n## Baking\n\nBake at 230 degrees.\n[2] trip.txt\nThe ferry to Naxos leaves at noon.\n"
        f"{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    )
    end = len("At 230.")
    assert citations(answer) == [(end, ids["bread.md"], "bread.md"), (end, ids["trip.txt"], "trip.txt")]


def test_results_are_told_where_they_are_asked_for(
    client: openai.OpenAI, model: ScriptedModel, store: str, ids: dict[str, str]
) -> None:
    del model
    answer = client.responses.create(**asked(store, max_num_results=1), include=["file_search_call.results"])
    search, _ = parts(answer)
    assert search.results is not None
    [first] = search.results
    assert (first.file_id, first.filename, first.attributes) == (
        ids["bread.md"],
        "bread.md",
        {"name": "bread.md"},
    )
    assert first.text == "## Baking\n\nBake at 230 degrees."
    assert first.score is not None
    assert 0 < first.score <= 1
    Response.model_validate(answer.model_dump())


def test_marks_of_the_model_are_cited_where_they_stand(
    client: openai.OpenAI, model: ScriptedModel, store: str, ids: dict[str, str]
) -> None:
    model.answer = "At noon [2], not at nine [9]."
    answer = client.responses.create(**asked(store, max_num_results=2))
    assert citations(answer) == [(len("At noon [2]"), ids["trip.txt"], "trip.txt")]


def test_the_events_are_those_of_openai(
    client: openai.OpenAI, model: ScriptedModel, store: str, ids: dict[str, str]
) -> None:
    del model
    body = asked(store, max_num_results=1)
    events = list(client.responses.create(**body, include=["file_search_call.results"], stream=True))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    searching = [event for event in events if event.type.startswith("response.file_search_call.")]
    assert {(event.output_index, event.item_id) for event in searching} == {(0, events[2].item.id)}
    assert events[2].item.status == "in_progress"
    annotated = next(event for event in events if event.type == "response.output_text.annotation.added")
    assert (annotated.output_index, annotated.content_index, annotated.annotation_index) == (1, 0, 0)
    assert annotated.annotation.file_id == ids["bread.md"]
    final = events[-1].response
    assert final.output[0].results[0].filename == "bread.md"
    assert citations(final) == [(7, ids["bread.md"], "bread.md")]
    with client.responses.stream(**body) as stream:
        assert citations(stream.get_final_response()) == citations(final), "the client's own reader"


def test_filters_thresholds_and_several_stores(
    client: openai.OpenAI, model: ScriptedModel, store: str
) -> None:
    only = {"type": "eq", "key": "name", "value": "trip.txt"}
    client.responses.create(**asked(store, filters=only))
    assert "[1] trip.txt" in prompt_of(model)
    assert "bread" not in prompt_of(model)
    answer = client.responses.create(**asked(store, ranking_options={"score_threshold": 1.0}))
    assert prompt_of(model) == f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    assert citations(answer) == [], "nothing was found"
    other = client.vector_stores.create().id
    client.responses.create(**asked(store, vector_store_ids=[other, store], max_num_results=1))
    assert "[1] bread.md" in prompt_of(model)


def test_a_conversation_goes_on(client: openai.OpenAI, model: ScriptedModel, store: str) -> None:
    """Items come back as they were answered, by id or in full; each turn is searched for by itself."""
    first = client.responses.create(**asked(store), include=["file_search_call.results"])
    body = asked(store, max_num_results=1) | {"input": "and when does the ferry go?"}
    client.responses.create(**body, previous_response_id=first.id)
    by_id = prompt_of(model)
    assert by_id.startswith(f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\nAt 230.")
    assert by_id.index("[1] trip.txt") > by_id.index("At 230.")
    items = [{"role": "user", "content": ASKED}, *(item.model_dump() for item in first.output)]
    client.responses.create(**body | {"input": [*items, {"role": "user", "content": body["input"]}]})
    assert prompt_of(model) == by_id


def test_the_server_s_own_stores_are_searched_too(client: openai.OpenAI, model: ScriptedModel) -> None:
    """What they tell of a passage comes back as it was answered, whatever its length."""
    first = client.responses.create(
        **asked("fake-docs", max_num_results=1), include=["file_search_call.results"]
    )
    assert "[1] heapq.merge\nMerge multiple sorted inputs" in prompt_of(model)
    [item, message] = (item.model_dump() for item in first.output)
    item["results"][0]["attributes"]["signature"] = "x" * 2000
    items = [{"role": "user", "content": ASKED}, item, message, {"role": "user", "content": "and?"}]
    assert client.responses.create(**asked("fake-docs") | {"input": items}).status == "completed"


@pytest.mark.parametrize(
    ("choice", "is_searched"),
    [("auto", True), ("required", True), ({"type": "file_search"}, True), ("none", False)],
)
def test_choices(
    client: openai.OpenAI, model: ScriptedModel, store: str, choice: str | dict[str, str], is_searched: bool
) -> None:
    answer = client.responses.create(**asked(store) | {"tool_choice": choice})
    assert ("[1] bread.md" in prompt_of(model)) == is_searched
    assert [item.type for item in answer.output] == ["file_search_call"] * is_searched + ["message"]
    assert answer.tool_choice == choice if isinstance(choice, str) else True


def test_quotes_of_what_was_found(url: str, model: ScriptedModel, store: str, ids: dict[str, str]) -> None:
    """The texts that an answer is held to are the passages; each quote is cited where it ends."""
    model.answer = "Bake at 230 degrees."
    body = asked(store, max_num_results=2) | {"grounding": "verbatim"}
    answer = httpx.post(f"{url}/v1/responses", json=body).json()
    assert model.sampled[-1].constraint is not None
    [span] = answer["grounding"]["spans"]
    assert (span["segment"], span["end"]) == ("doc:1", 20)
    [cited] = answer["output"][1]["content"][0]["annotations"]
    assert (cited["index"], cited["file_id"]) == (20, ids["bread.md"])


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"vector_store_ids": []}, 400, "at least 1 item"),
        ({"vector_store_ids": ["vs_absent"]}, 404, "vs_absent"),
        ({"max_num_results": 51}, 400, "less than or equal to 50"),
        (
            {"ranking_options": {"hybrid_search": {"embedding_weight": 1, "text_weight": 1}}},
            400,
            "embedding_weight",
        ),
        ({"filters": {"type": "like", "key": "a", "value": "b"}}, 400, "like"),
        ({"top_k": 1}, 400, "top_k"),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    url: str, model: ScriptedModel, store: str, change: dict[str, Any], status: int, said: str
) -> None:
    answer = httpx.post(f"{url}/v1/responses", json=asked(store, **change))
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert model.prompts == [], "nothing was computed"


def test_a_query_that_is_none_or_too_long(url: str, model: ScriptedModel, store: str) -> None:
    def send(**more: object) -> str:
        answer = httpx.post(f"{url}/v1/responses", json=asked(store) | more)
        assert answer.status_code == 400
        return answer.json()["error"]["message"]

    assert "no query" in send(input=[{"role": "system", "content": "x"}])
    assert "holds nothing to answer" in send(input=[{"type": "file_search_call", "queries": []}])
    assert "the limit" in send(input="word " * 3000)
    assert "one file_search" in send(tools=asked(store)["tools"] * 2)
    assert "not offered" in send(tools=[], tool_choice={"type": "file_search"})
    assert model.prompts == []


def test_another_key_s_store_is_none(made: ScriptedModel, tmp_path: Path) -> None:
    services = with_library(serves(made), tmp_path)
    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    with serving(lambda _: services, SETTINGS, admission=admission) as url:
        anna, ben = (openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) for key in (ANNA, BEN))
        with anna, ben:
            store, _ = filled(anna)
            with pytest.raises(openai.NotFoundError):
                ben.responses.create(**asked(store))
            assert citations(anna.responses.create(**asked(store))), "the positive control"
