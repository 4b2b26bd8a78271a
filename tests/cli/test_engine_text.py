"""The text side of the completer, before an engine that says what is written down, when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.core.errors import DeadlineUnmet, InputTooLong
from cynosure.engine import (
    Event,
    Finished,
    FinishReason,
    PromptLogprobs,
    RefusalReason,
    Refused,
    Request,
    SamplingParams,
    TokenEvent,
    TokenLogprob,
    Usage,
)
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.server.services import Generation, Token
from tests.models.tiny_tokenizers import byte_level, write

END = 2
ASKED = Generation((5, 6), SamplingParams(max_tokens=9))


class ScriptedEngine:
    """Tells events that it is given, and keeps what it was asked."""

    def __init__(self) -> None:
        self.load = EngineLoad()
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self._notify: Callable[[Event], None] | None = None

    def submit(self, request: Request, notify: Callable[[Event], None]) -> None:
        self.requests.append(request)
        self._notify = notify

    def tell(self, *events: Callable[[str], Event]) -> None:
        assert self._notify is not None
        for event in events:
            self._notify(event(self.requests[-1].request_id))

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def grammar(self, constraint: object, tenant: str = "") -> Future[Any]:
        raise AssertionError("nobody asks")

    def close(self) -> None:
        pass


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def model(tmp_path: Path, engine: ScriptedEngine) -> EngineCompleter:
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    card = ModelCard("tiny", ModelRole.DECODER, "Llama", "", "float32", 400, 100, (END,))
    return EngineCompleter("tiny", card, tokenizer, None, engine)


def token(token_id: int, top: Sequence[TokenLogprob] = ()) -> Callable[[str], Event]:
    return lambda name: TokenEvent(name, token_id, -0.5, tuple(top), 1)


def finished(reason: FinishReason) -> Callable[[str], Event]:
    return lambda name: Finished(name, reason, Usage(2, 1, 1))


def ids_of(model: EngineCompleter, text: str) -> tuple[int, ...]:
    return model.tokenizer.encode(text).ids


def all_of(
    model: EngineCompleter, engine: ScriptedEngine, asked: Generation, *events: Callable[[str], Event]
) -> list[Token]:
    async def run() -> list[Token]:
        tokens = model.complete(asked, "anna")
        engine.tell(*events)
        return [token async for together in tokens for token in together]

    return asyncio.run(run())


def test_a_token_is_sent_when_it_is_chosen(model: EngineCompleter, engine: ScriptedEngine) -> None:
    """And not when the next one is: that made the first come a whole step late."""
    first, second = ids_of(model, "a")[0], ids_of(model, "b")[0]

    async def run() -> list[Token]:
        tokens, got = model.complete(ASKED), []
        for event in (token(first), token(second)):
            engine.tell(event)
            async with asyncio.timeout(5):
                got += await anext(tokens)
        engine.tell(finished(FinishReason.LENGTH))
        return got + [token async for together in tokens for token in together]

    got = asyncio.run(run())
    assert [(one.text, one.token_id, one.finish_reason) for one in got] == [
        ("a", first, None),
        ("b", second, None),
        ("", None, "length"),
    ]


@pytest.mark.parametrize(
    ("reason", "end"),
    [(FinishReason.EOS, "stop"), (FinishReason.LENGTH, "length"), (FinishReason.COMPLETE, "stop")],
)
def test_the_text_is_that_of_all_tokens_but_the_end(
    model: EngineCompleter, engine: ScriptedEngine, reason: FinishReason, end: str
) -> None:
    ids = ids_of(model, "größe ☆")
    closing = [token(END)] if reason is FinishReason.EOS else []
    got = all_of(model, engine, ASKED, *map(token, ids), *closing, finished(reason))
    assert "".join(one.text for one in got) == "größe ☆"
    assert [one.token_id for one in got if one.token_id is not None] == [*ids, *[END] * len(closing)]
    assert (got[-1].finish_reason, got[-1].num_cached) == (end, 1)
    assert got[0].num_cached == 1, "whoever stops early knows it too"
    assert set(engine.cancelled) == {engine.requests[0].request_id}


def test_a_character_that_never_became_whole_comes_before_the_end(
    model: EngineCompleter, engine: ScriptedEngine
) -> None:
    half = ids_of(model, "☆")[0]
    got = all_of(model, engine, ASKED, token(half), token(END), finished(FinishReason.EOS))
    assert [(one.text, one.token_id) for one in got] == [
        ("", half),
        ("\N{REPLACEMENT CHARACTER}", None),
        ("", END),
    ]


def test_end_tokens_are_text_where_they_do_not_end(model: EngineCompleter, engine: ScriptedEngine) -> None:
    letter = ids_of(model, "a")[0]
    stopping = Generation((5,), SamplingParams(max_tokens=9, stop_token_ids=(letter,), ignore_eos=True))
    shown = Generation((5,), stopping.sampling, skips_special=False)
    for asked, text in ((stopping, ""), (shown, "<|im_end|>")):
        events = (token(END), token(letter), finished(FinishReason.STOP))
        assert "".join(one.text for one in all_of(model, engine, asked, *events)) == text


def test_likelihoods_come_where_they_were_asked_for(model: EngineCompleter, engine: ScriptedEngine) -> None:
    top = TokenLogprob(7, -0.1)

    def prompt(start: int) -> Callable[[str], Event]:
        return lambda name: PromptLogprobs(name, start, (TokenLogprob(6, -1.0),), ((top,),))

    asked = Generation((5, 6, 6), SamplingParams(max_tokens=9, logprobs=1, prompt_logprobs=1))
    events = (prompt(1), prompt(2), token(40, [top]), finished(FinishReason.LENGTH))
    first, end = all_of(model, engine, asked, *events)
    assert (first.logprob, first.top_logprobs) == (-0.5, (top,))
    assert [scored.token.token_id for scored in first.prompt_logprobs] == [6, 6]
    assert (end.logprob, end.prompt_logprobs) == (None, ())
    unasked = all_of(model, engine, ASKED, token(40), finished(FinishReason.LENGTH))
    assert unasked[0].logprob is None
    # Where nothing is chosen, they come with the end.
    [alone] = all_of(model, engine, asked, prompt(1), finished(FinishReason.LENGTH))
    assert len(alone.prompt_logprobs) == 1


def test_what_is_asked_reaches_the_engine(model: EngineCompleter, engine: ScriptedEngine) -> None:
    asked = Generation((5,), ASKED.sampling, 3, 60_000, is_reproducible=True, segments=(0,))
    all_of(model, engine, asked, finished(FinishReason.LENGTH))
    request = engine.requests[0]
    assert (request.tenant, request.priority, request.is_reproducible) == ("anna", 3, True)
    assert request.segments == (0,)
    assert request.deadline_s is not None


@pytest.mark.parametrize(
    ("reason", "failure"), [(RefusalReason.DEADLINE, DeadlineUnmet), (RefusalReason.TOO_LARGE, InputTooLong)]
)
def test_a_refusal_says_why(
    model: EngineCompleter, engine: ScriptedEngine, reason: RefusalReason, failure: type[Exception]
) -> None:
    with pytest.raises(failure, match="no room") as caught:
        all_of(model, engine, ASKED, lambda name: Refused(name, reason, "no room", 2.5))
    assert not isinstance(caught.value, DeadlineUnmet) or caught.value.retry_after_s == 2.5
