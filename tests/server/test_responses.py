"""`/v1/responses` through the stock client: what it answers, streams, keeps and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseStreamEvent

from cynosure.engine.constraints import ConstraintKind
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving
from tests.server.keyrings import ANNA, BEN, LINES, bearer

PATH = "/v1/responses"
OK: dict[str, Any] = {"model": "scripted", "input": "Hi."}
LOOK: FunctionToolParam = {
    "type": "function",
    "name": "look",
    "description": "Look.",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
THOUGHT = "<think>\nWell.\n</think>\n\nHello there."
CALLS = (
    "Let me see.\n<tool_call>\n"
    + json.dumps({"name": "look", "arguments": {"at": "☆"}})
    + "\n</tool_call>\n<tool_call>"
    + json.dumps({"name": "look", "arguments": {}})
    + "</tool_call>"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def url(made: ScriptedModel) -> Iterator[str]:
    with serving(lambda _: serves(made)) as address:
        yield address


@pytest.fixture
def model(made: ScriptedModel) -> ScriptedModel:
    made.answer, made.fails_at, made.pause_s, made.num_given = "Hello there.", None, 0.0, 0
    made.prompts.clear()
    made.sampled.clear()
    return made


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def prompt_of(model: ScriptedModel) -> str:
    return model.tokenizer.decode(model.prompts[-1], skip_special_tokens=False)


def streamed(client: openai.OpenAI, **more: object) -> list[ResponseStreamEvent]:
    return list(client.responses.create(**(OK | more), stream=True))


def test_a_whole_answer(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.responses.create(model="scripted", input="Hi.", instructions="Be kind.", temperature=0)
    assert (answer.object, answer.status, answer.output_text) == ("response", "completed", "Hello there.")
    [message] = answer.output
    assert message.type == "message"
    assert (message.role, message.status) == ("assistant", "completed")
    assert answer.usage is not None
    assert answer.usage.input_tokens == len(model.prompts[-1])
    assert answer.usage.input_tokens_details.cached_tokens == 2
    assert answer.usage.output_tokens == 4
    assert answer.usage.total_tokens == answer.usage.input_tokens + 4
    assert (answer.instructions, answer.temperature, answer.top_p) == ("Be kind.", 0, 1)
    assert model.sampled[-1].temperature == 0
    assert prompt_of(model) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_client_can_read_every_field(url: str, model: ScriptedModel) -> None:
    """Its types are strict where they are validated, and not only constructed."""
    for model.answer in (THOUGHT, CALLS):
        body = httpx.post(url + PATH, json=OK | {"tools": [LOOK], "metadata": {"a": "b"}}).json()
        Response.model_validate(body)
        assert body["metadata"] == {"a": "b"}


def test_the_events_come_in_order(client: openai.OpenAI, model: ScriptedModel) -> None:
    events = streamed(client)
    num_deltas = sum(event.type == "response.output_text.delta" for event in events)
    # The guard holds a word back until it is whole; what it then lets go leaves together.
    assert 2 <= num_deltas <= 4
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * num_deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text == "Hello there."
    first = events[0]
    assert first.type == "response.created"
    assert (first.response.status, first.response.output, first.response.usage) == ("in_progress", [], None)


@pytest.mark.parametrize("answer", ["Hello there.", THOUGHT, CALLS, ""])
def test_a_stream_and_a_whole_answer_say_the_same(
    client: openai.OpenAI, model: ScriptedModel, answer: str
) -> None:
    model.answer = answer or "x"
    whole = client.responses.create(**OK, tools=[LOOK])
    with client.responses.stream(model="scripted", input="Hi.", tools=[LOOK]) as stream:
        final = stream.get_final_response()
    assert _said(final.output) == _said(whole.output)
    assert final.usage == whole.usage


def _said(output: Iterable[pydantic.BaseModel]) -> list[dict[str, Any]]:
    """Without what differs from request to request, or is the client's own."""
    own: Any = {"id": True, "call_id": True, "parsed_arguments": True, "content": {"__all__": {"parsed"}}}
    return [item.model_dump(exclude=own) for item in output]


def test_thoughts_are_an_item_of_their_own(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = THOUGHT
    answer = client.responses.create(**OK)
    reasoning, message = answer.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert [part.text.strip() for part in reasoning.content] == ["Well."]
    assert message.type == "message"
    assert answer.output_text.strip() == "Hello there."
    assert answer.usage is not None
    thought = answer.usage.output_tokens_details.reasoning_tokens
    assert 0 < thought < answer.usage.output_tokens
    kinds = [event.type for event in streamed(client)]
    assert "response.reasoning_text.delta" in kinds
    assert kinds.index("response.reasoning_text.done") < kinds.index("response.output_text.delta")


def test_calls_are_items_with_their_arguments(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = CALLS
    answer = client.responses.create(**OK, tools=[LOOK])
    message, first, second = answer.output
    assert message.type == "message"
    assert answer.output_text == "Let me see."
    assert first.type == second.type == "function_call"
    assert (first.name, json.loads(first.arguments)) == ("look", {"at": "☆"})
    assert first.call_id != second.call_id
    assert '"name": "look"' in prompt_of(model)
    events = streamed(client, tools=[LOOK])
    done = [event.arguments for event in events if event.type == "response.function_call_arguments.done"]
    assert done == [first.arguments, second.arguments]


def test_a_call_s_result_is_sent_back_in_either_way(client: openai.OpenAI, model: ScriptedModel) -> None:
    """With all items again, or with the id of the answer: the model reads the same."""
    model.answer = CALLS.replace("Let me see.\n", "")
    asked = client.responses.create(**OK, tools=[LOOK])
    calls = [item for item in asked.output if item.type == "function_call"]
    results: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"seen {at}"}
        for at, call in enumerate(calls)
    ]
    model.answer = "A star."
    again: Any = [
        {"role": "user", "content": "Hi."},
        *[item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in asked.output],
        *results,
    ]
    client.responses.create(model="scripted", input=again, tools=[LOOK])
    by_items = prompt_of(model)
    client.responses.create(model="scripted", input=results, previous_response_id=asked.id, tools=[LOOK])
    assert prompt_of(model) == by_items
    assert by_items.count("<tool_call>") >= 2
    assert "seen 0" in by_items
    assert "seen 1" in by_items


def test_a_conversation_goes_on_from_its_last_answer(client: openai.OpenAI, model: ScriptedModel) -> None:
    first = client.responses.create(**OK, instructions="Only here.")
    model.answer = "Again."
    events = streamed(client, previous_response_id=first.id, input="And?")
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.previous_response_id == first.id
    assert "Only here." not in prompt_of(model)
    client.responses.create(model="scripted", input="So?", previous_response_id=last.response.id)
    said = ["Hi.", "Hello there.", "And?", "Again.", "So?"]
    places = [prompt_of(model).index(text) for text in said]
    assert places == sorted(places)


def test_what_is_kept_can_be_read_and_forgotten(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.responses.create(**OK)
    assert client.responses.retrieve(answer.id) == answer
    client.responses.delete(answer.id)
    for call in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError, match=answer.id):
            call(answer.id)
    with pytest.raises(openai.NotFoundError, match="Send the whole conversation"):
        client.responses.create(**OK, previous_response_id=answer.id)


def test_what_is_not_to_be_kept_is_not(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.responses.create(**OK, store=False)
    assert answer.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_another_key_finds_nothing(made: ScriptedModel, model: ScriptedModel) -> None:
    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    with serving(lambda _: serves(made), admission=admission) as url:
        mine = httpx.post(url + PATH, json=OK, headers=bearer(ANNA)).json()["id"]
        assert httpx.get(f"{url}{PATH}/{mine}", headers=bearer(ANNA)).status_code == 200
        assert httpx.get(f"{url}{PATH}/{mine}", headers=bearer(BEN)).status_code == 404
        assert httpx.delete(f"{url}{PATH}/{mine}", headers=bearer(BEN)).status_code == 404
        body = OK | {"previous_response_id": mine}
        assert httpx.post(url + PATH, json=body, headers=bearer(BEN)).status_code == 404
        assert httpx.get(f"{url}{PATH}/{mine}").status_code == 401


def test_a_limit_leaves_an_answer_incomplete(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.responses.create(**OK, max_output_tokens=2)
    assert (answer.status, answer.output_text) == ("incomplete", "Hello ")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert model.sampled[-1].max_tokens == 2
    assert streamed(client, max_output_tokens=2)[-1].type == "response.incomplete"


def test_a_failure_on_the_way_is_the_last_event(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.fails_at = 2
    last = streamed(client)[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"
    assert "secret" not in last.response.error.message
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(last.response.id)
    with pytest.raises(openai.InternalServerError):
        client.responses.create(**OK)


class Star(pydantic.BaseModel):
    name: str


def test_a_schema_is_asked_of_the_engine_and_parsed(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = '{"name": "Polaris"}'
    answer = client.responses.parse(model="scripted", input="Hi.", text_format=Star)
    assert answer.output_parsed == Star(name="Polaris")
    constraint = model.sampled[-1].constraint
    assert constraint is not None
    assert constraint.kind is ConstraintKind.JSON_SCHEMA
    assert json.loads(constraint.text)["required"] == ["name"]
    assert answer.model_dump(by_alias=True)["text"]["format"]["schema"]["title"] == "Star"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": []}, ["input", "at least 1"]),
        ({"input": [{"type": "item_reference", "id": "x"}]}, ["input", "item_reference"]),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            ["input", "type input_image is a picture"],
        ),
        ({"input": [{"role": "user", "content": "a", "colour": 1}]}, ["colour"]),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]}, ["no JSON"]),
        ({"input": [{"type": "reasoning", "encrypted_content": "x"}]}, ["input", "None"]),
        ({"tools": [{"type": "web_search"}]}, ["tools"]),
        ({"background": True}, ["background", "False"]),
        ({"truncation": "auto"}, ["truncation", "'disabled'"]),
        ({"include": ["reasoning.encrypted_content"]}, ["include"]),
        ({"metadata": {"a": 1}}, ["metadata", "string"]),
        ({"max_output_tokens": 0}, ["max_output_tokens"]),
        ({"stream_options": {"include_obfuscation": False}}, ["stream"]),
        ({"max_tokens": 5}, ["not known", "max_output_tokens"]),
        ({"conversation": "c"}, ["conversation"]),
    ],
)
def test_what_is_not_served_is_refused_by_name(url: str, change: dict[str, object], words: list[str]) -> None:
    response = httpx.post(url + PATH, json=OK | change)
    assert response.status_code == 400, response.text
    message = response.json()["error"]["message"]
    assert all(word in message for word in words), message
