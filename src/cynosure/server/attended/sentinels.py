"""Ask frozen prompts again while others are served, and hand answers to the drift board. Compares nothing.

A sentinel is answered greedily and by itself, whatever the batch, shares no page with anybody, and goes
behind every request that waits. Its prompt is the operator's own; no caller's text is frozen.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cynosure.core.errors import CynosureError, InputError
from cynosure.engine.sampling import SamplingParams
from cynosure.engine.watch import WatchSpec
from cynosure.insight import ReadToken, shares_by_part
from cynosure.insight.drift.drift_sentinel import FrozenSentinel, SentinelAnswer
from cynosure.server.answers.attention import default_choice
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.chat_turn import build_prompt
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.schemas.chat import ChatRequest
from cynosure.server.services import CompletionModel, Generation, Services

#: One is asked after so many answers of a model; the next at once where it differs.
EVERY = 25
MAX_SENTINELS, MAX_TOKENS = 64, 8
#: Behind whoever waits.
_PRIORITY = 1000
#: Whose pages they would be, if they kept any.
_TENANT = "drift sentinels"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentinelPrompt:
    """A conversation that is asked again and again, by the number of its line."""

    id: str
    messages: tuple[dict[str, object], ...]

    def request(self, model: str) -> ChatRequest:
        """The same as a caller would ask it."""
        return ChatRequest.model_validate({"model": model, "messages": list(self.messages)})


def read_sentinels(file: Path) -> tuple[SentinelPrompt, ...]:
    """Read conversations, one a line: `{"messages": [{"role": "user", "content": "..."}]}`.

    Raises:
        InputError: the file can't be read, holds none or too many, or a line is none.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"the sentinels {file} can't be read: {fault}. Name another file.") from fault
    if not 1 <= len(lines) <= MAX_SENTINELS:
        raise InputError(f"{file} has {len(lines)} sentinels; 1 to {MAX_SENTINELS} may be. Change it.")
    return tuple(_sentinel(at, line, file) for at, line in enumerate(lines))


class Sentinels:
    """Asks them in turn. Lives on the event loop of the server."""

    def __init__(self, prompts: Sequence[SentinelPrompt], board: DriftBoard, every: int = EVERY) -> None:
        """Begin with none asked."""
        self._prompts = tuple(prompts)
        self._board = board
        self._every = every
        self._asked_at: dict[str, tuple[str, int, int]] = {}
        self._work: asyncio.Task[None] | None = None

    def passed(self, services: Services) -> None:
        """Look whether a sentinel is due, as requests pass; it is asked beside them."""
        if self._prompts and (self._work is None or self._work.done()):
            due = [(name, place) for name in services.completers if (place := self._due(name)) is not None]
            if due:
                self._work = asyncio.get_running_loop().create_task(self._ask(services, due))

    async def frozen(self, services: Services, model: str) -> tuple[FrozenSentinel, ...]:
        """Each prompt's answer, given twice, to be compared with from now on.

        Raises:
            CynosureError: the model can't answer one.
        """
        found = []
        for prompt in self._prompts:
            completer = services.completer(model)
            first, second = await answer_to(completer, prompt), await answer_to(completer, prompt)
            found.append(FrozenSentinel.of(prompt.id, first, second))
        return tuple(found)

    def _due(self, model: str) -> int | None:
        """The place of the sentinel that is due, if one is."""
        state = self._board.sentinels_of(model)
        if state is None:
            return None
        digest, num_answers, ids = state
        before, last, turn = self._asked_at.get(model, ("", 0, 0))
        if before != digest:
            last, turn = 0, 0
        # After the first answer of a start too: what changed, changed with it.
        if last and num_answers - last < self._every:
            return None
        self._asked_at[model] = (digest, max(1, num_answers), turn + 1)
        return turn % len(ids)

    async def _ask(self, services: Services, due: Sequence[tuple[str, int]]) -> None:
        by_id = {prompt.id: prompt for prompt in self._prompts}
        for model, place in due:
            try:
                # What differs is confirmed at once, and not after as many answers again.
                while (state := self._board.sentinels_of(model)) is not None:
                    prompt = by_id.get(state[2][place])
                    if prompt is None:
                        break
                    answer = await answer_to(services.completer(model), prompt)
                    if not self._board.read_sentinel(model, place, answer, time.time()):
                        break
                    place = (place + 1) % len(state[2])
            except CynosureError as error:
                _log.info("a drift sentinel of %s was not answered: %s", model, type(error).__name__)
            except Exception:
                # One that fails must not end the later ones.
                _log.exception("a drift sentinel of %s broke", model)


async def answer_to(model: CompletionModel, prompt: SentinelPrompt) -> SentinelAnswer:
    """Have a sentinel answered, by itself and greedily.

    Raises:
        InputError: the model does not converse, or can't be watched.
    """
    if model.watchable is None:
        raise InputError(f"{model.name} can't be watched, so that it has no sentinels. Leave them out.")
    body = prompt.request(model.name)
    chat = await build_prompt(model, body.turns, from_text=True)
    segments = chat_segments(chat, body.segment_names)
    choice = model.watching.choice or default_choice(model.watchable)
    asked = Generation(
        tuple(chat.token_ids),
        SamplingParams(max_tokens=MAX_TOKENS, temperature=0, logprobs=0),
        priority=_PRIORITY,
        is_reproducible=True,
        watch=WatchSpec(choice.heads, segments.runs, len(segments.parts)),
    )
    tokens: list[ReadToken] = []
    async with aclosing(model.complete(asked, _TENANT)) as coming:
        async for together in coming:
            for token in together:
                if token.token_id is not None and token.attended is not None:
                    told = token.attended
                    shares = shares_by_part(segments, told.masses, told.sink, told.entropy_bits)
                    tokens.append(ReadToken(token.token_id, "", 0, token.logprob, shares))
    return SentinelAnswer.of(chat.token_ids, tokens)


def _sentinel(at: int, line: str, file: Path) -> SentinelPrompt:
    try:
        told = json.loads(line)
        if not isinstance(told, dict) or set(told) != {"messages"}:
            raise ValueError("it is no object with messages alone")
        prompt = SentinelPrompt(f"line {at + 1}", tuple(told["messages"]))
        prompt.request("any")
    except (ValueError, TypeError, ValidationError) as fault:
        told = str(fault).splitlines()[0]
        raise InputError(f"line {at + 1} of {file} is no conversation: {told}. Correct it.") from fault
    return prompt
