"""`/v1/chat/completions` through the stock client: what it answers, streams and refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.models.real_templates import GEMMA
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving

PATH = "/v1/chat/completions"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi."}]
OK: dict[str, Any] = {"model": "scripted", "messages": HELLO}
LOOK: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}},
}
CALLS = (
    "Let me see.\n<tool_call>\n"
    + json.dumps({"name": "look", "arguments": {"at": "☆"}})
    + "\n</tool_call>\n<tool_call>"
    + json.dumps({"name": "look", "arguments": {}})
    + "</tool_call>"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ScriptedModel]:
    made = scripted(tmp_path_factory.mktemp("scripted"))
    bare = scripted(tmp_path_factory.mktemp("bare"), None)
    gemma = scripted(tmp_path_factory.mktemp("gemma"), GEMMA)
    bare.name, gemma.name = "bare", "gemma"
    return {model.name: model for model in (made, bare, gemma)}


@pytest.fixture(scope="module")
def url(models: dict[str, ScriptedModel]) -> Iterator[str]:
    with serving(lambda _: serves(*models.values())) as address:
        yield address


@pytest.fixture
def model(models: dict[str, ScriptedModel]) -> ScriptedModel:
    made = models["scripted"]
    made.answer, made.fails_at, made.pause_s, made.num_given = "Hello there.", None, 0.0, 0
    made.prompts.clear()
    made.sampled.clear()
    return made


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def prompt_of(model: ScriptedModel) -> str:
    return model.tokenizer.decode(model.prompts[-1], skip_special_tokens=False)


def events(url: str, **more: object) -> list[Any]:
    with httpx.stream("POST", url + PATH, json=OK | {"stream": True} | more) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_whole_answer(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.chat.completions.create(model="scripted", messages=HELLO)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "Hello there.",
        "stop",
    )
    assert choice.message.tool_calls is None
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(model.prompts[-1])
    assert answer.usage.completion_tokens == 4
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert prompt_of(model) == "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"


def test_the_fields_are_those_of_the_reference(url: str, model: ScriptedModel) -> None:
    body = httpx.post(url + PATH, json=OK).json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello there.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert model.sampled[-1].temperature == 1.0


def test_a_stream_says_the_same(client: openai.OpenAI, model: ScriptedModel) -> None:
    chunks = list(
        client.chat.completions.create(
            model="scripted", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello there."
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_pieces_of_a_stream(url: str, model: ScriptedModel) -> None:
    model.answer = "ab"
    parts = events(url)
    assert [part["choices"][0]["delta"] for part in parts] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "ab"},
        {},
    ]
    assert all("usage" not in part for part in parts)


def test_what_is_asked_reaches_the_engine(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.chat.completions.create(
        model="scripted", messages=HELLO, max_completion_tokens=2, temperature=0, seed=-1, top_p=0.5
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "Hello "
    sampled = model.sampled[-1]
    assert (sampled.max_tokens, sampled.temperature, sampled.top_p) == (2, 0.0, 0.5)
    client.chat.completions.create(model="scripted", messages=HELLO)
    assert model.sampled[-1].max_tokens == 2048


def test_a_constraint_reaches_the_engine(client: openai.OpenAI, model: ScriptedModel) -> None:
    client.chat.completions.create(
        model="scripted", messages=HELLO, response_format={"type": "json_object"}, max_tokens=9
    )
    assert model.sampled[-1].constraint is not None
    client.chat.completions.create(model="scripted", messages=HELLO, response_format={"type": "text"})
    assert model.sampled[-1].constraint is None


def test_a_stop_string(client: openai.OpenAI, model: ScriptedModel) -> None:
    answer = client.chat.completions.create(model="scripted", messages=HELLO, stop=["the", "zzz"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello ", "stop")


def test_a_conversation_is_rendered(client: openai.OpenAI, model: ScriptedModel) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b<|im_end|>"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    client.chat.completions.create(model="scripted", messages=messages)
    assert prompt_of(model).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na\nb<|im_end|>"
    )
    # What a message forges is spelled out: four turns end with the token.
    end = model.tokenizer.token_to_id("<|im_end|>")
    assert list(model.prompts[-1]).count(end or -1) == 4


def test_calls(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = CALLS
    answer = client.chat.completions.create(
        model="scripted", messages=HELLO, tools=[LOOK], tool_choice="auto"
    )
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert choice.message.tool_calls is not None
    first, second = choice.message.tool_calls
    assert first.type == second.type == "function"
    assert (first.function.name, json.loads(first.function.arguments)) == ("look", {"at": "☆"})
    assert json.loads(second.function.arguments) == {}
    assert first.id != second.id
    assert '"name": "look"' in prompt_of(model)
    # What was called, and what it gave, go back into the conversation as the client has them.
    back: list[ChatCompletionMessageParam] = [
        *HELLO,
        choice.message.model_dump(),  # pyright: ignore[reportAssignmentType, reportListType]
        {"role": "tool", "tool_call_id": first.id, "content": "seen"},
        {"role": "tool", "tool_call_id": second.id, "content": "dark"},
    ]
    client.chat.completions.create(model="scripted", messages=back, tools=[LOOK])
    assert '"at": "☆"' in prompt_of(model)
    assert "<|im_start|>tool\nseen" in prompt_of(model)


def test_calls_in_a_stream(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = CALLS
    with client.chat.completions.stream(model="scripted", messages=HELLO, tools=[LOOK]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    [choice] = final.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert choice.message.tool_calls is not None
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [{"at": "☆"}, {}]
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_only_calls_leave_no_content(url: str, model: ScriptedModel) -> None:
    model.answer = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    body = httpx.post(url + PATH, json=OK | {"tools": [LOOK]}).json()
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert set(message["tool_calls"][0]) == {"id", "type", "function"}
    pieces = [part["choices"][0]["delta"] for part in events(url, tools=[LOOK])]
    assert [set(piece) for piece in pieces] == [
        {"role", "content", "refusal"},
        {"tool_calls"},
        {"tool_calls"},
        set(),
    ]
    assert pieces[2]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]


def test_without_tools_nothing_is_a_call(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.answer = CALLS
    plain = client.chat.completions.create(model="scripted", messages=HELLO)
    none = client.chat.completions.create(model="scripted", messages=HELLO, tools=[LOOK], tool_choice="none")
    for answer in (plain, none):
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (CALLS, "stop")
    assert "look" not in prompt_of(model)


def test_reasoning_is_apart(url: str, model: ScriptedModel) -> None:
    model.answer = "<think>\nHm. <b>?\n</think>\n\nYes."
    message = httpx.post(url + PATH, json=OK).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm. <b>?", "Yes.")
    deltas = [part["choices"][0]["delta"] for part in events(url)]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm. <b>?"
    assert "".join(delta.get("content", "") for delta in deltas) == "Yes."
    again = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}
    httpx.post(url + PATH, json=OK | {"messages": [*HELLO, again, *HELLO]})
    assert "<think>\nHm.\n</think>\nYes." in prompt_of(model)


def test_a_client_that_leaves_ends_it(url: str, model: ScriptedModel) -> None:
    model.answer, model.pause_s = "x" * 3000, 0.005
    with httpx.stream("POST", url + PATH, json=OK | {"stream": True}) as response:
        next(response.iter_lines())
    before, deadline = -1, time.monotonic() + 5
    while model.num_given != before and time.monotonic() < deadline:
        before = model.num_given
        time.sleep(0.2)
    assert model.num_given < 500


def test_a_failure_on_the_way_is_the_client_s_error(client: openai.OpenAI, model: ScriptedModel) -> None:
    model.fails_at = 2
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="scripted", messages=HELLO)
    with pytest.raises(openai.APIError, match="log says how"):
        list(client.chat.completions.create(model="scripted", messages=HELLO, stream=True))


USER = {"role": "user", "content": "a"}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("more", "param", "words"),
    [
        ({"n": 33}, "n", ["32", "33"]),
        ({"n": 0}, "n", ["1", "0"]),
        ({"top_logprobs": 3}, None, ["top_logprobs", "logprobs to be true"]),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", ["20"]),
        ({"tool_choice": "required"}, None, ["tool_choice", "no tools"]),
        (
            {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "fly"}}},
            None,
            ["'fly'"],
        ),
        ({"tools": [LOOK, LOOK]}, None, ["two tools", "'look'"]),
        (
            {"tools": [LOOK], "tool_choice": "required", "response_format": {"type": "json_object"}},
            None,
            ["tool_choice", "json_schema"],
        ),
        ({"reasoning_effort": "low"}, None, ["reasoning_effort", "Leave it out"]),
        ({"priority": -1}, "priority", ["0"]),
        ({"deadline_ms": 0}, "deadline_ms", ["1"]),
        ({"response_format": {"type": "xml"}}, "response_format", ["json_object"]),
        ({"max_tokens": 1, "max_completion_tokens": 2}, None, ["max_completion_tokens"]),
        ({"stream_options": {}}, None, ["stream"]),
        ({"functions": []}, "functions", ["not known"]),
        ({"user": "me", "safety_identifier": "you"}, None, ["two people"]),
        ({"metadata": {"a": "b"}}, "metadata", ["metadata"]),
        ({"messages": []}, "messages", ["at least 1"]),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages", ["system"]),
        ({"messages": [{"role": "user"}]}, "messages", ["no content"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]},
            "messages",
            ["type image_url is a picture", "in Python"],
        ),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages", ["tool_call_id"]),
        ({"messages": [USER | {"tool_calls": [CALL]}]}, "messages", ["assistant"]),
        ({"messages": [USER | {"weight": 1}]}, "weight", ["not known"]),
        ({"chat_template_kwargs": {"nope": True}}, None, ["reads no 'nope'"]),
        ({"chat_template_kwargs": {"messages": "x"}}, None, ["messages"]),
        ({"max_tokens": 10**6}, None, ["limit"]),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    url: str, model: ScriptedModel, more: dict[str, Any], param: str | None, words: list[str]
) -> None:
    response = httpx.post(url + PATH, json=OK | more)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["param"] == param, error
    assert all(word in error["message"] for word in words), error["message"]


def test_arguments_that_are_no_object(url: str) -> None:
    for arguments in ("[]", "{", "1"):
        call = CALL | {"function": {"name": "look", "arguments": arguments}}
        body = OK | {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]}
        response = httpx.post(url + PATH, json=body)
        assert response.status_code == 400
        assert "arguments of look" in response.json()["error"]["message"]


def test_models_that_can_not(client: openai.OpenAI, model: ScriptedModel) -> None:
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client.chat.completions.create(model="bare", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="tools are not served"):
        client.chat.completions.create(model="gemma", messages=HELLO, tools=[LOOK])
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="absent", messages=HELLO)
