"""`/v1/responses` over a tiny random checkpoint in the real engine, beside chat, which it must equal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam

from cynosure.cli.local_completer import load_completer
from cynosure.server.services import Services
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving
from tests.server.served_tiny import CHAT, write_decoder

SAID = "Where is the star?"
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"at": {"enum": ["sea", "sky"]}},
    "required": ["at"],
    "additionalProperties": False,
}


def tool(name: str) -> FunctionToolParam:
    return {"type": "function", "name": name, "parameters": SCHEMA, "strict": True}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder = write_decoder(tmp_path_factory.mktemp("tiny-chat"), max_model_len=1200)
    # Its template has switched reasoning off: a random model would think for ever.
    begin = "<|im_start|>assistant\\n"
    (folder / "chat_template.jinja").write_text(SOURCE.replace(begin, f"{begin}<think>\\n\\n</think>\\n\\n"))

    def serve(_: object) -> Services:
        return Services({}, {}, {CHAT: load_completer(CHAT, folder, dtype="float32")}, int(time.time()))

    with (
        serving(serve, wait_s=60) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def ask(client: openai.OpenAI, **more: object) -> Any:  # noqa: ANN401 - a response, or its stream
    settings: dict[str, Any] = {"model": CHAT, "input": SAID, "temperature": 0, "max_output_tokens": 12}
    return client.responses.create(**(settings | more))


def test_it_says_what_chat_says_and_how_likely_it_was(client: openai.OpenAI) -> None:
    answer = ask(client, include=["message.output_text.logprobs"], top_logprobs=2)
    chat = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": SAID}],
        temperature=0,
        max_completion_tokens=12,
        logprobs=True,
        top_logprobs=2,
    )
    assert answer.output_text == chat.choices[0].message.content
    rows = answer.output[0].content[0].logprobs
    assert chat.choices[0].logprobs is not None
    expected = chat.choices[0].logprobs.content
    assert expected is not None
    assert [row.token for row in rows] == [row.token for row in expected]
    assert [row.logprob for row in rows] == pytest.approx([row.logprob for row in expected], abs=1e-5)
    assert all(len(row.top_logprobs) == 2 for row in rows)


def test_a_stream_tells_the_same_chances(client: openai.OpenAI) -> None:
    more: Any = {"include": ["message.output_text.logprobs"]}
    rows = ask(client, **more).output[0].content[0].logprobs
    events = list(ask(client, stream=True, **more))
    told = [row for event in events if event.type == "response.output_text.delta" for row in event.logprobs]
    assert [row.token for row in told] == [row.token for row in rows]
    done = next(event for event in events if event.type == "response.output_text.done")
    assert len(done.logprobs) == len(rows)


def test_a_second_turn_finds_the_first_in_the_cache(client: openai.OpenAI) -> None:
    first = ask(client, input=SAID * 8)
    again = ask(client, input="And now?", previous_response_id=first.id)
    assert first.usage.input_tokens_details.cached_tokens == 0
    assert again.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens // 2


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "look"}])
def test_a_call_that_is_asked_for_is_made(client: openai.OpenAI, choice: object) -> None:
    tools = [tool("look"), tool("find")] if isinstance(choice, dict) else [tool("look")]
    answer = ask(client, tools=tools, tool_choice=choice, parallel_tool_calls=False, max_output_tokens=200)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["look"]
    assert json.loads(calls[0].arguments)["at"] in ("sea", "sky")
    assert answer.model_dump()["parallel_tool_calls"] is False


def test_a_schema_is_followed(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
    answer = ask(client, text={"format": form}, max_output_tokens=400)
    assert json.loads(answer.output_text)["at"] in ("sea", "sky")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tool_choice": "required"}, "tool"),
        ({"tools": [tool("look")], "tool_choice": {"type": "function", "name": "find"}}, "find"),
        ({"reasoning": {"effort": "high"}}, "reasoning_effort"),
        ({"top_logprobs": 3}, "include"),
    ],
)
def test_what_can_not_be_asked_is_refused(
    client: openai.OpenAI, change: dict[str, object], words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        ask(client, **change)


def test_a_session_is_named_here_too(client: openai.OpenAI) -> None:
    named = ask(client, prompt_cache_key="talk", prompt_cache_retention="in_memory")
    assert named.output_text == ask(client).output_text
    with pytest.raises(openai.BadRequestError, match="--cache-dir"):
        ask(client, prompt_cache_key="talk", extra_body={"prompt_cache_retention": "24h"})
    with pytest.raises(openai.BadRequestError, match="needs a prompt_cache_key"):
        ask(client, extra_body={"prompt_cache_retention": "24h"})
