"""`/v1/messages` through the stock client of Anthropic: what it answers, streams and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolParam

from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving

PATH = "/v1/messages"
HELLO: list[MessageParam] = [{"role": "user", "content": "Hi."}]
OK: dict[str, Any] = {"model": "scripted", "messages": HELLO, "max_tokens": 100}
LOOK: ToolParam = {
    "name": "look",
    "description": "Look.",
    "input_schema": {"type": "object", "properties": {}},
}
CALL = '<tool_call>{"name": "look", "arguments": {"at": "☆"}}</tool_call>'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def url(made: ScriptedModel) -> Iterator[str]:
    with serving(lambda _: serves(made)) as address:
        yield address


@pytest.fixture
def model(made: ScriptedModel) -> ScriptedModel:
    made.answer, made.fails_at = "Hello there.", None
    return made


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def prompt_of(model: ScriptedModel) -> str:
    return model.tokenizer.decode(model.prompts[-1], skip_special_tokens=False)


def test_a_whole_answer(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    answer = client.messages.create(
        model="scripted",
        max_tokens=100,
        messages=HELLO,
        system="Be brief.",
        # Fields that the protocol has, and this version of the client no longer names.
        extra_body={"temperature": 0.5, "top_k": 3},
    )
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "scripted")
    [block] = answer.content
    assert block.type == "text"
    assert block.text == "Hello there."
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) == len(model.prompts[-1])
    assert answer.usage.output_tokens == 4
    assert prompt_of(model).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.")
    assert (model.sampled[-1].temperature, model.sampled[-1].top_k) == (0.5, 3)


def test_limits_and_stop_sequences(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    short = client.messages.create(model="scripted", max_tokens=1, messages=HELLO)
    assert short.stop_reason == "max_tokens"
    stopped = client.messages.create(
        model="scripted", max_tokens=9, messages=HELLO, stop_sequences=["lo", "x"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "lo")
    [block] = stopped.content
    assert block.type == "text"
    assert block.text == "Hel"


def test_the_client_s_stream_adds_up(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    model.answer = f"<think>\nHm.\n</think>\n\nLet me see.\n{CALL}\n{CALL}"
    with client.messages.stream(model="scripted", max_tokens=200, messages=HELLO, tools=[LOOK]) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(model="scripted", max_tokens=200, messages=HELLO, tools=[LOOK])
    assert said == "Let me see."
    for answer in (final, whole):
        assert [block.type for block in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
        thinking, text, first, second = answer.content
        assert thinking.type == "thinking"
        assert thinking.thinking == "Hm."
        assert text.type == "text"
        assert text.text == "Let me see."
        assert first.type == second.type == "tool_use"
        assert (first.name, first.input) == ("look", {"at": "☆"})
        assert first.id != second.id
        assert answer.stop_reason == "tool_use"
        assert answer.usage.output_tokens == whole.usage.output_tokens


def test_the_events_of_a_stream(url: str, model: ScriptedModel) -> None:
    model.answer = "ab"
    with httpx.stream("POST", url + PATH, json=OK | {"stream": True}) as response:
        lines = [line for line in response.iter_lines() if line]
    names = [line.removeprefix("event: ") for line in lines[::2]]
    data = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert (
        names
        == [event["type"] for event in data]
        == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    )
    assert data[0]["message"]["content"] == []
    assert data[0]["message"]["stop_reason"] is None
    assert data[1]["content_block"] == {"type": "text", "text": ""}
    assert data[2]["delta"] == {"type": "text_delta", "text": "ab"}
    assert data[4]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_a_conversation_with_tools_goes_back(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    model.answer = f"<think>Hm.</think>{CALL}"
    first = client.messages.create(model="scripted", max_tokens=200, messages=HELLO, tools=[LOOK])
    call = first.content[-1]
    assert call.type == "tool_use"
    back: list[MessageParam] = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "So."}, call]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": "seen"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    client.messages.create(model="scripted", max_tokens=200, messages=back, tools=[LOOK])
    text = prompt_of(model)
    assert '"at": "☆"' in text
    assert text.index("<|im_start|>tool\nseen") < text.index("<|im_start|>user\nAnd?")


def test_tokens_are_counted(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    count = client.messages.count_tokens(model="scripted", messages=HELLO, system="Be brief.")
    client.messages.create(model="scripted", max_tokens=9, messages=HELLO, system="Be brief.")
    assert count.input_tokens == len(model.prompts[-1])


def test_failures_are_the_client_s_own_errors(client: anthropic.Anthropic, model: ScriptedModel) -> None:
    with pytest.raises(anthropic.NotFoundError) as absent:
        client.messages.create(model="absent", max_tokens=9, messages=HELLO)
    body: Any = absent.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    model.fails_at = 2
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(model="scripted", max_tokens=9, messages=HELLO)
    with pytest.raises(anthropic.APIStatusError, match="log says how"):
        list(client.messages.create(model="scripted", max_tokens=9, messages=HELLO, stream=True))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"max_tokens": None}, ["max_tokens"]),
        ({"metadata": {"owner": "me"}}, ["owner", "not known"]),
        ({"temperature": 1.5}, ["temperature", "1.5"]),
        ({"tool_choice": {"type": "any"}}, ["tool_choice"]),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, ["budget_tokens"]),
        ({"thinking": {"type": "enabled"}}, ["thinking", "'adaptive' or 'disabled'"]),
        ({"thinking": {"type": "disabled"}}, ["always thinks"]),
        ({"messages": [*HELLO, {"role": "assistant", "content": "So"}]}, ["last message"]),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            ["messages", "type image is a picture"],
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
            ["tool_result"],
        ),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, ["thinking"]),
        ({"max_tokens": 10**6}, ["limit"]),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    url: str, model: ScriptedModel, more: dict[str, Any], words: list[str]
) -> None:
    response = httpx.post(url + PATH, json=OK | more)
    body = response.json()
    assert response.status_code == 400, body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert all(word in body["error"]["message"] for word in words), body["error"]["message"]


def test_thinking_is_switched_off_where_there_is_a_switch(tmp_path: Path) -> None:
    source = "{% if enable_thinking is false %}<think></think>{% endif %}{{ messages[0].content }}"
    model = scripted(tmp_path, source)
    with serving(lambda _: serves(model)) as url:
        httpx.post(url + PATH, json=OK | {"thinking": {"type": "disabled"}}).raise_for_status()
        httpx.post(url + PATH, json=OK).raise_for_status()
    assert [model.tokenizer.decode(prompt) for prompt in model.prompts] == ["<think></think>Hi.", "Hi."]


def test_errors_before_a_route_have_the_shape(url: str) -> None:
    refused = httpx.post(url + PATH, content=b"x" * (2 << 20), headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")
    broken = httpx.post(url + PATH, content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")
    absent = httpx.post(f"{url}{PATH}/absent", json={})
    assert (absent.status_code, absent.json()["error"]["type"]) == (404, "not_found_error")
