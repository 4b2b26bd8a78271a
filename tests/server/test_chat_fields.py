"""Every field of chat through the stock clients, against a tiny model that is computed for real."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from cynosure.cli.local_completer import load_completer
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.template import ChatTemplate
from cynosure.server.services import Services
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi."}]
GREEDY: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 8, "temperature": 0}
#: Short whatever a random model writes.
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"at": {"enum": ["sea", "sky"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["at", "n"],
    "additionalProperties": False,
}


def tool(name: str, **more: object) -> ChatCompletionToolParam:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **more}}  # type: ignore[typeddict-item]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=1024)
    # Its template has switched reasoning off: a random model would think for ever.
    begin = "<|im_start|>assistant\\n"
    assert SOURCE.count(begin) == 1
    (made / "chat_template.jinja").write_text(SOURCE.replace(begin, f"{begin}<think>\\n\\n</think>\\n\\n"))
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    def load(_: object) -> Services:
        tiny = load_completer("tiny", folder, dtype="float32")
        switched = load_completer("switched", folder, dtype="float32")
        source = "{{ enable_thinking }} {{ reasoning_effort }} {{ messages[0].content }}:"
        template = ChatTemplate({"default": source}, {}, switched.tokenizer.control_tokens)
        switched.chat = ChatFormat.of(template, switched.tokenizer)
        return Services({}, {}, {"tiny": tiny, "switched": switched}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_logprobs_are_those_of_completions(client: openai.OpenAI, url: str) -> None:
    answer = client.chat.completions.create(
        **GREEDY, logprobs=True, top_logprobs=2, extra_body={"return_token_ids": True}
    )
    [choice] = answer.choices
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    prompt = answer.model_extra["prompt_token_ids"]
    [plain] = client.completions.create(
        model="tiny", prompt=prompt, max_tokens=8, temperature=0, logprobs=2
    ).choices
    assert plain.logprobs is not None
    told = choice.logprobs.content
    assert [row.logprob for row in told] == pytest.approx(plain.logprobs.token_logprobs)
    assert [row.token for row in told] == plain.logprobs.tokens
    assert all(len(row.top_logprobs) == 2 for row in told)
    assert all(row.top_logprobs[0].logprob >= row.logprob - 1e-6 for row in told)
    assert b"".join(bytes(row.bytes or []) for row in told).decode(errors="replace") == plain.text
    assert len(choice.model_extra["token_ids"]) == 8
    unasked = client.chat.completions.create(**GREEDY)
    assert unasked.choices[0].logprobs is None


def test_logprobs_of_a_stream_add_up(client: openai.OpenAI) -> None:
    [whole] = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=1).choices
    chunks = list(client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=1, stream=True))
    assert whole.logprobs is not None
    rows = [
        row
        for chunk in chunks
        if chunk.choices[0].logprobs is not None
        for row in chunk.choices[0].logprobs.content or []
    ]
    assert rows == whole.logprobs.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.message.content


def test_several_answers(client: openai.OpenAI) -> None:
    drawn = GREEDY | {"temperature": 1.4, "seed": 3}
    answer = client.chat.completions.create(**drawn, n=3)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[1] == client.chat.completions.create(**drawn | {"seed": 4}).choices[0].message.content
    chunks = list(
        client.chat.completions.create(**drawn, n=3, stream=True, stream_options={"include_usage": True})
    )
    streamed = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
    assert chunks[-1].usage is not None
    assert answer.usage is not None
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens == 24
    alone = client.chat.completions.create(**drawn)
    assert alone.usage is not None
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "names"),
    [("required", {"look", "sum"}), ({"type": "function", "function": {"name": "sum"}}, {"sum"})],
)
def test_a_call_that_is_required_is_made(
    client: openai.OpenAI, choice: object, names: set[str], stream: bool
) -> None:
    asked = GREEDY | {
        "max_tokens": 400,
        "temperature": 1.0,
        "seed": 5,
        "tools": [tool("look"), tool("sum")],
        "tool_choice": choice,
        "parallel_tool_calls": False,
    }
    if stream:
        with client.chat.completions.stream(**asked) as events:
            for _ in events:
                pass
            answer = events.get_final_completion().choices[0]
    else:
        answer = client.chat.completions.create(**asked).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert not answer.message.content
    assert answer.message.tool_calls is not None
    [call] = answer.message.tool_calls
    assert call.type == "function"
    assert call.function.name in names
    values = json.loads(call.function.arguments)
    assert set(values) == {"at", "n"}
    assert values["at"] in ("sea", "sky")


def test_a_strict_function_is_called_by_its_schema_or_not_at_all(client: openai.OpenAI) -> None:
    """A random model begins a call of its own accord only where it is pushed to."""
    begin = '<tool_call>\n{"name": "look", "arguments": '
    for seed in range(4):
        answer = client.chat.completions.create(
            **GREEDY | {"max_tokens": 300, "temperature": 1.0, "seed": seed},
            tools=[tool("look", strict=True)],
        ).choices[0]
        text = answer.message.content or ""
        assert begin not in text, "what begins as a call is one"
        for call in answer.message.tool_calls or []:
            assert call.type == "function"
            assert set(json.loads(call.function.arguments)) == {"at", "n"}


def test_a_schema_is_followed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        **GREEDY | {"max_tokens": 300, "temperature": 1.0, "seed": 2},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "place", "strict": True, "schema": PARAMETERS},
        },
    )
    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    values = json.loads(choice.message.content or "")
    assert set(values) == {"at", "n"}


@pytest.mark.parametrize("kind", ["any", "tool"])
def test_claude_s_client_may_require_a_call_too(claude: anthropic.Anthropic, kind: str) -> None:
    tools: list[Any] = [{"name": name, "input_schema": PARAMETERS} for name in ("look", "sum")]
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    if kind == "tool":
        choice = {"type": "tool", "name": "sum"}
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi."}],
        "max_tokens": 400,
        "tools": tools,
        "tool_choice": choice,
    }
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as events:
        streamed = events.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        used = [block for block in message.content if block.type == "tool_use"]
        assert len(used) == 1
        assert set(used[0].input) == {"at", "n"}
        assert kind != "tool" or used[0].name == "sum"


def test_claude_s_system_may_be_blocks_that_ask_to_be_kept(claude: anthropic.Anthropic) -> None:
    # Long enough for pages to be found again.
    system: Any = [{"type": "text", "text": "Be brief. " * 30, "cache_control": {"type": "ephemeral"}}]
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi."}],
        "max_tokens": 4,
        "system": system,
    }
    claude.messages.create(**asked)
    again = claude.messages.create(**asked)
    assert (again.usage.cache_read_input_tokens or 0) > 0
    with pytest.raises(anthropic.BadRequestError, match="1h"):
        claude.messages.create(**asked | {"cache_control": {"type": "ephemeral", "ttl": "1h"}})


def test_effort_goes_to_the_template_s_own_variable(url: str) -> None:
    def prompt(**more: object) -> str:
        body = GREEDY | {"model": "switched", "return_token_ids": True} | more
        answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
        ids = answer["prompt_token_ids"]
        return httpx.post(f"{url}/detokenize", json={"model": "switched", "tokens": ids}).json()["prompt"]

    assert prompt(reasoning_effort="high").split() == ["high", "Hi.:"]
    assert prompt(chat_template_kwargs={"enable_thinking": False}).split() == ["False", "Hi.:"]
    refused = httpx.post(f"{url}/v1/chat/completions", json=GREEDY | {"reasoning_effort": "none"})
    assert refused.status_code == 400
    assert "always thinks" in refused.json()["error"]["message"]


def test_a_client_that_waits_for_the_whole_and_leaves_ends_it_at_once(url: str) -> None:
    long = GREEDY | {"max_tokens": 900, "ignore_eos": True, "n": 4}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=long, timeout=0.2)
    ended = time.monotonic() + 5
    while 'num_requests_running{model_name="tiny"} 0.0' not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < ended
        time.sleep(0.02)
    metrics = httpx.get(f"{url}/metrics").text
    assert 'finished_reason="abort"' in metrics
