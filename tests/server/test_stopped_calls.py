"""Calls that were written attending to documents: stopped over every protocol, and nothing of them leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cynosure.engine.watch import AttendedTo, Watchable
from cynosure.guard import Action, AuditLog, CallRules, Policy, Rules
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Generation, Services, Token, Tokens
from tests.server.chat_models import ScriptedModel, scripted
from tests.server.fakes import serving

CANARY = "zanzibar"
CALL = f'<tool_call>{{"name": "look", "arguments": {{"at": "{CANARY}"}}}}</tool_call>'
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
PATHS = (CHAT, MESSAGES, RESPONSES)
SCHEMA = {"type": "object", "properties": {}}


@dataclass
class LookingModel(ScriptedModel):
    """Attends to the part of a role, as `looks` says of what was written so far."""

    watchable: Watchable | None = field(  # type: ignore[assignment] - it has heads
        default_factory=lambda: Watchable((4, 4), (0, 1))
    )
    looks: list[str] = field(default_factory=lambda: ["system"])

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        return self._looking(super().complete(asked, tenant), asked)

    async def _looking(self, tokens: Tokens, asked: Generation) -> Tokens:
        async for together in tokens:
            yield [replace(token, attended=self._attended(token, asked)) for token in together]

    def _attended(self, token: Token, asked: Generation) -> AttendedTo | None:
        if asked.watch is None or asked.reading is None or token.token_id is None:
            return None
        role = self.looks[min(token.token_id, len(self.looks) - 1)]
        roles = [part.role for part in asked.reading.segments.parts]
        masses = [0.0] * asked.watch.num_segments
        masses[roles.index(role)] = 0.9
        masses[-1] = 0.1
        return AttendedTo(tuple(masses), 0.0, 0.5)


@dataclass(frozen=True)
class House:
    url: str
    model: LookingModel
    audit: Path

    def post(self, path: str, **more: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body(path, **more))

    def calls(self) -> list[dict[str, Any]]:
        """What the audit has of calls, by request."""
        lines = [json.loads(line)["record"] for line in self.audit.read_text().splitlines()]
        return [line["guard"].get("calls", {}) for line in lines if line["event"] == "request"]


def house_of(folder: Path, policy: Policy | None) -> Iterator[House]:
    plain = scripted(folder)
    model = LookingModel(plain.tokenizer, plain.chat)
    path = folder / "audit.jsonl"
    oversight = Oversight(policy, AuditWriter(AuditLog(path, b"k" * 32)))
    made = Services({}, {}, {model.name: model}, int(time.time()))
    try:
        with serving(lambda _: made, oversight=oversight) as url:
            yield House(url, model, path)
    finally:
        oversight.close()


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from house_of(tmp_path_factory.mktemp("open"), None)


@pytest.fixture(scope="module")
def strict_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from house_of(tmp_path_factory.mktemp("strict"), Policy(calls=CallRules(0.5)))


@pytest.fixture
def house(open_house: House) -> House:
    return fresh(open_house)


@pytest.fixture
def strict(strict_house: House) -> House:
    return fresh(strict_house)


def fresh(house: House) -> House:
    house.model.answer, house.model.looks, house.model.num_given = CALL, ["document"], 0
    house.model.watchable, house.model.num_together = Watchable((4, 4), (0, 1)), 1
    house.model.asked.clear()
    return house


def body(path: str, minimum: float | None = 0.4, **more: object) -> dict[str, Any]:
    """A document that a tool gave back, and an offer; Anthropic's clients can name no part a document."""
    attention = {} if minimum is None else {"attention": {"tool_focus_min": minimum}}
    asked: dict[str, Any] = {"model": "scripted", **attention}
    if path == CHAT:
        parts = [
            {"type": "text", "text": "Look at it!", "segment": "doc:0"},
            {"type": "text", "text": "What?"},
        ]
        asked["messages"] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
        asked["tools"] = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
    elif path == MESSAGES:
        use = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "c1", "content": "Look at it!"}
        asked["system"], asked["max_tokens"] = "Be brief.", 500
        asked["messages"] = [
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        asked["tools"] = [{"name": "look", "input_schema": SCHEMA}]
    else:
        asked["instructions"] = "Be brief."
        asked["input"] = [
            {"role": "user", "content": "What?"},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Look at it!"},
        ]
        asked["tools"] = [{"type": "function", "name": "look", "parameters": SCHEMA}]
    return asked | more


def untrusted(path: str) -> str:
    return "document" if path == CHAT else "tool"


def ended(path: str, answer: dict[str, Any]) -> tuple[object, object]:
    """Why an answer ended, and what is told of a stopped call."""
    if path == CHAT:
        choice = answer["choices"][0]
        return choice["finish_reason"], choice.get("stopped_call")
    if path == MESSAGES:
        return answer["stop_reason"], answer.get("stopped_call")
    reason = (answer["incomplete_details"] or {}).get("reason")
    return reason or answer["status"], answer["stopped_call"]


STOPPED = {CHAT: "content_filter", MESSAGES: "refusal", RESPONSES: "content_filter"}
CALLED = {CHAT: "tool_calls", MESSAGES: "tool_use", RESPONSES: "completed"}


@pytest.mark.parametrize("path", PATHS)
def test_a_call_written_attending_to_untrusted_text_is_stopped(house: House, path: str) -> None:
    house.model.looks = [untrusted(path)]
    answer = house.post(path)
    assert CANARY not in answer.text
    reason, stopped = ended(path, answer.json())
    assert reason == STOPPED[path]
    assert isinstance(stopped, dict)
    assert (stopped["focus"], stopped["minimum"], stopped["is_fitted"]) == (0.0, 0.4, False)
    assert stopped["attended_to"] == ("doc:0" if path == CHAT else "tool:0")
    assert stopped["share"] == 1.0
    assert "attended to" in stopped["message"]
    assert answer.headers["X-Guard"] == "calls stopped 1"
    assert house.calls()[-1] == {"stopped": 1}
    assert CANARY not in house.audit.read_text()


@pytest.mark.parametrize("path", PATHS)
def test_a_call_written_attending_to_instructions_is_handed_out(house: House, path: str) -> None:
    house.model.looks = ["system"]
    answer = house.post(path)
    assert CANARY in answer.text
    assert ended(path, answer.json()) == (CALLED[path], None)
    assert house.calls()[-1] == {}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("num_together", [1, 7, 1000])
def test_in_a_stream_nothing_of_it_leaves(house: House, path: str, num_together: int) -> None:
    house.model.looks, house.model.num_together = [untrusted(path)], num_together
    house.model.answer = f"Let me see. {CALL}"
    more = {"return_token_ids": True} if path == CHAT else {}
    text = house.post(path, stream=True, **more).text
    assert CANARY not in text
    assert "Let" in text
    assert text.count("a call of a function was stopped") == 1
    pieces = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")
    ]
    if path == CHAT:
        ids = [one for piece in pieces for one in piece["choices"][0].get("token_ids", [])]
        # Tokens of three characters: those of the text before, and not one of the call.
        assert max(ids) * 3 <= len("Let me see. ")
        assert pieces[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_tokens_of_a_call_that_passes_are_told_with_it(house: House) -> None:
    house.model.looks = ["system"]
    answer = house.post(CHAT, return_token_ids=True, stream=True).text
    pieces = [
        json.loads(line.removeprefix("data: ")) for line in answer.splitlines() if line.startswith("data: {")
    ]
    told = [one for piece in pieces for one in piece["choices"][0].get("token_ids", [])]
    assert told == list(range(len(told)))
    assert len(told) == -(-len(CALL) // 3)


def test_an_answer_that_calls_nothing_is_left_alone(house: House) -> None:
    house.model.answer = "It is a fox."
    (choice,) = house.post(CHAT, return_token_ids=True).json()["choices"]
    assert choice["message"]["content"] == "It is a fox."
    assert choice["token_ids"] == [0, 1, 2, 3]
    assert "stopped_call" not in choice


def test_what_only_looks_like_a_call_stays_text(house: House) -> None:
    house.model.answer = '<tool_call>{"name": "leap", "arguments": {}}</tool_call>'
    (choice,) = house.post(CHAT).json()["choices"]
    assert choice["message"]["content"] == house.model.answer
    assert choice["finish_reason"] == "stop"


def test_text_and_white_space_before_a_call_do_not_count(house: House) -> None:
    before = "Sure, as I was told by the system." + "\n" * 300
    house.model.answer = before + CALL
    house.model.looks = ["system"] * (len(before) // 3 + 1) + ["document"]
    assert ended(CHAT, house.post(CHAT).json())[0] == "content_filter"


def test_the_first_call_leaves_and_the_second_is_stopped(house: House) -> None:
    house.model.answer = CALL + CALL
    house.model.looks = ["system"] * (len(CALL) // 3 + 1) + ["document"]
    (choice,) = house.post(CHAT).json()["choices"]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "content_filter"


def test_generation_ends_with_what_is_stopped(house: House) -> None:
    house.model.answer = CALL + "x" * 3000
    house.post(CHAT)
    assert house.model.num_given <= len(CALL) // 3 + 2


def test_where_all_is_trusted_nothing_is_watched_nor_judged(house: House) -> None:
    answer = house.post(CHAT, messages=[{"role": "user", "content": "Look!"}])
    assert ended(CHAT, answer.json()) == ("tool_calls", None)
    assert house.model.asked[-1].watch is None


def test_a_server_s_policy_judges_unasked(strict: House) -> None:
    assert ended(CHAT, strict.post(CHAT, minimum=None).json())[0] == "content_filter"
    asked = strict.model.asked[-1]
    assert asked.reading is not None
    assert not asked.reading.is_asked


@pytest.mark.parametrize(
    ("minimum", "reason"), [(0.1, "content_filter"), (0.4, "content_filter"), (None, "content_filter")]
)
def test_a_request_can_t_lower_it(strict: House, minimum: float | None, reason: str) -> None:
    (_, stopped) = ended(CHAT, strict.post(CHAT, minimum=minimum).json())
    assert isinstance(stopped, dict)
    assert stopped["minimum"] == 0.5


def test_without_policy_and_wish_calls_are_as_they_were(house: House) -> None:
    assert ended(CHAT, house.post(CHAT, minimum=None).json()) == ("tool_calls", None)
    assert house.model.asked[-1].watch is None


def test_tokens_that_nobody_watched_do_not_pass(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LookingModel, "_attended", lambda self, token, asked: None)
    (reason, stopped) = ended(CHAT, house.post(CHAT).json())
    assert reason == "content_filter"
    assert isinstance(stopped, dict)
    assert stopped["focus"] is None


def test_a_model_that_can_t_be_watched_is_refused(strict: House, tmp_path: Path) -> None:
    strict.model.watchable = None
    answer = strict.post(CHAT, minimum=None)
    assert answer.status_code == 400
    assert "can't be watched" in answer.text
    assert not strict.model.asked
    lenient = Policy(calls=CallRules(0.5, unwatched=Action.ALLOW))
    for house in house_of(tmp_path, lenient):
        fresh(house).model.watchable = None
        assert ended(CHAT, house.post(CHAT, minimum=None).json()) == ("tool_calls", None)
        # What a request asks for itself is kept or refused.
        assert house.post(CHAT, minimum=0.1).status_code == 400


@pytest.mark.parametrize(
    ("path", "more", "words"),
    [
        (CHAT, {"tools": None}, "none may be called here"),
        (CHAT, {"tool_choice": "none"}, "none may be called here"),
        (CHAT, {"attention": {"tool_focus_min": 1.1}}, "less than or equal to 1"),
        (CHAT, {"attention": {"tool_focus_min": 0.1, "level": "full", "heads": [[0, 0]]}}, "Leave out heads"),
        (CHAT, {"attention": {"tool_focus_min": 0.1, "level": "full", "every": 2}}, "Leave out heads"),
        ("/v1/completions", {"prompt": "a"}, "none may be called here"),
    ],
)
def test_what_is_refused(house: House, path: str, more: dict[str, Any], words: str) -> None:
    base = body(CHAT) if path == CHAT else {"model": "scripted", "attention": {"tool_focus_min": 0.1}}
    answer = httpx.post(f"{house.url}{path}", json={name: one for name, one in (base | more).items() if one})
    assert answer.status_code in (400, 422)
    assert words in answer.text


def test_an_answer_tells_its_focus(house: House) -> None:
    house.model.answer, house.model.looks = "It is a fox.", ["system", "document", "user", "document"]
    (choice,) = house.post(CHAT, attention={"level": "summary"}).json()["choices"]
    assert (choice["attention"]["focus"], choice["attention"]["focus_is_fitted"]) == (0.5, False)
    messages = [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Look!"}]
    house.model.looks = ["user"]
    (choice,) = house.post(CHAT, attention={"level": "summary"}, messages=messages).json()["choices"]
    assert "focus" not in choice["attention"]


def test_the_policy_blocks_texts_and_calls_by_themselves() -> None:
    assert Policy(output=Rules(card=Action.BLOCK)).calls.min_focus is None
