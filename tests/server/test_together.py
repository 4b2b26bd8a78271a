"""However many tokens come at a time, an answer says the same: its text, its tokens, its end and its cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Tokens
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving
from tests.server.test_metrics import _scraped

SPOKEN = "<think>\nWell, 4111 1111 1111 1111.\n</think>\n\nThe größe ☆ of it; stop here and no more."
CALLS = (
    "Let me see.\n<tool_call>\n"
    + json.dumps({"name": "look", "arguments": {"at": "☆"}})
    + "\n</tool_call>\n<tool_call>"
    + json.dumps({"name": "look", "arguments": {}})
    + "</tool_call>"
)
LOOK = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": LOOK}
HELLO = [{"role": "user", "content": "Hi."}]
SIZES = (2, 5, 1000)
#: One for all: to make one takes longer than most of what is asked here.
CLIENT = httpx.Client(trust_env=False)


@dataclass
class Likely(ScriptedModel):
    """Tells how likely its tokens are where it is asked."""

    async def _tokens(self, limit: int) -> Tokens:
        async for together in super()._tokens(limit):
            yield [replace(one, logprob=-0.25) for one in together]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Likely:
    made = scripted(tmp_path_factory.mktemp("scripted"))
    return Likely(made.tokenizer, made.chat)


@pytest.fixture(scope="module", params=[True, False], ids=["guarded", "unguarded"])
def url(model: Likely, request: pytest.FixtureRequest) -> Iterator[str]:
    oversight = Oversight() if request.param else Oversight(policy=None)
    with serving(lambda _: serves(model), oversight=oversight) as address:
        yield address


def events_of(url: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    asked = {"model": "scripted", "stream": True} | body
    with CLIENT.stream("POST", url + path, json=asked) as response:
        assert response.status_code == 200, response.read()
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def merged(before: Any, after: Any) -> Any:  # noqa: ANN401 - any JSON
    """What a client that adds pieces up makes of two."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {name: merged(before.get(name), after.get(name)) for name in {**before, **after}}
    if isinstance(before, list) and isinstance(after, list):
        return before + after
    if isinstance(before, str) and isinstance(after, str):
        return before + after
    return before if after is None else after


def chat(url: str, **more: object) -> tuple[int, dict[str, Any]]:
    events = events_of(url, "/v1/chat/completions", {"messages": HELLO} | more)
    whole: dict[str, Any] = {}
    for event in events:
        for choice in event["choices"]:
            choice.pop("index")
            # The calls of one answer are told apart by their index, and their pieces come in order.
            for call in choice["delta"].get("tool_calls", ()):
                call.pop("id", None)
            whole = merged(whole, choice)
    return len(events), whole | {"usage": events[-1].get("usage")}


def completion(url: str, **more: object) -> tuple[int, dict[str, Any]]:
    events = events_of(url, "/v1/completions", {"prompt": "Hi.", "max_tokens": 500} | more)
    whole: dict[str, Any] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        choice.pop("index")
        whole = merged(whole, choice)
    return len(events), whole | {"usage": events[-1].get("usage")}


def message(url: str, **more: object) -> tuple[int, Any]:
    events = events_of(url, "/v1/messages", {"messages": HELLO, "max_tokens": 500} | more)
    blocks: list[Any] = []
    for event in events:
        if event["type"] == "content_block_start":
            event["content_block"].pop("id", None)
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            blocks[event["index"]] = merged(blocks[event["index"]], event["delta"] | {"type": ""})
    last = events[-2]
    return len(events), [blocks, last["delta"], last["usage"]]


def response(url: str, **more: object) -> tuple[int, Any]:
    events = events_of(url, "/v1/responses", {"input": "Hi."} | more)
    body = events[-1]["response"]
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    rows = [row for event in events for row in event.get("logprobs", ()) if event["type"].endswith("delta")]
    items = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")}
        for item in body["output"]
    ]
    return len(events), [items, deltas, rows, body["usage"], body["status"]]


ASKED = {
    "chat": (chat, SPOKEN, {}),
    "chat, usage": (chat, SPOKEN, {"stream_options": {"include_usage": True}}),
    "chat, stopped": (chat, SPOKEN, {"stop": ["stop"], "stream_options": {"include_usage": True}}),
    "chat, cut": (chat, SPOKEN, {"max_tokens": 11, "stream_options": {"include_usage": True}}),
    "chat, likely": (chat, SPOKEN, {"logprobs": True, "return_token_ids": True}),
    "chat, calls": (chat, CALLS, {"tools": [TOOL]}),
    "completion": (completion, SPOKEN, {"stream_options": {"include_usage": True}}),
    "completion, stopped": (completion, SPOKEN, {"stop": "e; st", "stream_options": {"include_usage": True}}),
    "completion, likely": (completion, SPOKEN, {"logprobs": 0, "return_token_ids": True, "stop": ["no"]}),
    "message": (message, SPOKEN, {}),
    "message, stopped": (message, SPOKEN, {"stop_sequences": ["☆"]}),
    "message, calls": (message, CALLS, {"tools": [{**LOOK, "input_schema": LOOK["parameters"]}]}),
    "response": (response, SPOKEN, {}),
    "response, likely": (response, SPOKEN, {"include": ["message.output_text.logprobs"]}),
    "response, calls": (response, CALLS, {"tools": [{"type": "function", "strict": False, **LOOK}]}),
}
ASKED["message, calls"][2]["tools"][0].pop("parameters")  # type: ignore[index]


@pytest.mark.parametrize("name", ASKED)
def test_the_answer_is_the_same(url: str, model: Likely, name: str) -> None:
    ask, model.answer, more = ASKED[name]
    model.num_together = 1
    num_events, alone = ask(url, **more)
    for model.num_together in SIZES:
        num_fewer, together = ask(url, **more)
        assert together == alone
        assert num_fewer <= num_events
    assert num_fewer < num_events, "what came together left together"


def test_what_is_counted_is_what_was_read(url: str, model: Likely) -> None:
    """A stop string ends the count, though more tokens had come with its own."""
    name = "cynosure_generation_tokens_total{model_name=scripted}"
    model.answer = "abc stop and more and more."
    counted = []
    for model.num_together in (1, *SIZES):
        before = _scraped(url)[name]
        _, whole = completion(url, stop=["stop"], stream_options={"include_usage": True})
        counted.append((_scraped(url)[name] - before, whole["usage"]["completion_tokens"]))
    assert len(set(counted)) == 1, counted


def test_a_failure_comes_after_what_came_before_it(url: str, model: Likely) -> None:
    model.answer, model.num_together, model.fails_at = "abc def ghi jkl.", 1, 4
    try:
        events = events_of(url, "/v1/completions", {"prompt": "Hi.", "max_tokens": 500})
    finally:
        model.fails_at = None
    assert "error" in events[-1]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "abc def ghi "
