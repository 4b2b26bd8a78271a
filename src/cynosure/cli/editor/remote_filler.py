"""Fill gaps with a model behind `/v1/completions`. Knows nothing of tokens, files or editors.

Only the server can count tokens: a window begins wide, and is drawn closer as often as the server refuses it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from cynosure.cli.editor.filling import Filling, Piece, Question, written
from cynosure.core.errors import EnvironmentFault, InputError, InputTooLong
from cynosure.evaluate.event_stream import DONE, EventStream
from cynosure.models.fill_window import SUFFIX_SHARE, whole_lines

#: Characters of the first window, and what is left of one after each refusal.
FIRST_CHARS = 8192
SHRINK = 0.75
LEAST_CHARS = 64
_TOO_LONG = "input_too_long"


class RemoteFiller:
    """A model of a running server."""

    def __init__(self, url: str, name: str, headers: Mapping[str, str] | None = None) -> None:
        """Remember where to ask.

        Args:
            url: up to `/v1`, with or without it.
            name: what the server calls the model.
            headers: such as a key's.

        Raises:
            InputError: the address is not plain HTTP.
        """
        if not url.startswith("http://"):
            raise InputError(f"the address is {url!r}; this client speaks plain HTTP. Write http://...")
        self.name = name
        self._url = f"{url.rstrip('/').removesuffix('/v1')}/v1/completions"
        self._headers = dict(headers or {})
        self._num_chars = FIRST_CHARS

    async def fill(self, question: Question) -> Filling:
        """Propose, by the likeliest tokens.

        Raises:
            InputError: the server refuses the question.
            EnvironmentFault: there is no server, or it failed.
        """
        num_chars = self._num_chars
        while True:
            try:
                filling = await self._ask(question, num_chars)
            except InputTooLong:
                num_chars = int(SHRINK * num_chars)
                if num_chars < LEAST_CHARS:
                    raise
            else:
                # The next question need not be refused as often.
                self._num_chars = num_chars
                return filling

    def close(self) -> None:
        """Nothing is under way where nobody waits for it."""

    async def _ask(self, question: Question, num_chars: int) -> Filling:
        begun, gap = time.perf_counter(), question.gap
        prefix, suffix = gap.prefix, gap.suffix
        start, end = _window(prefix, suffix, num_chars)
        body: dict[str, object] = {
            "model": self.name,
            "prompt": prefix[start:],
            "suffix": suffix[:end],
            "max_tokens": question.token_limit,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if question.names is not None:
            body["names"] = list(question.names)
        usage: dict[str, int] = {}
        try:
            told = await written(self._pieces(body, usage), question, begun)
        except (OSError, asyncio.IncompleteReadError) as fault:
            raise EnvironmentFault(
                f"{self._url} does not answer: {fault}. Start `cynosure serve`."
            ) from fault
        return Filling(
            text=told.text,
            end=told.end,
            window=gap.window(start, end),
            num_prompt_tokens=usage.get("prompt_tokens"),
            num_tokens=usage.get("completion_tokens", told.num_tokens),
            first_ms=told.first_ms,
            total_ms=1e3 * (time.perf_counter() - begun),
        )

    async def _pieces(self, body: Mapping[str, object], usage: dict[str, int]) -> AsyncGenerator[Piece]:
        stream = await EventStream.open(self._url, body, self._headers)
        if stream.status != 200:
            raise _refused(self._url, stream.status, await stream.read())
        async with aclosing(stream.events()) as coming:
            async for event in coming:
                if event.data == DONE:
                    return
                said = event.json
                if "error" in said:
                    raise EnvironmentFault(f"{self._url} failed: {said['error'].get('message')}")
                usage.update(
                    {
                        name: count
                        for name, count in (said.get("usage") or {}).items()
                        if isinstance(count, int)
                    }
                )
                for choice in said["choices"]:
                    yield Piece(choice["text"], choice["finish_reason"], 1)


def _window(prefix: str, suffix: str, num_chars: int) -> tuple[int, int]:
    """A window of so many characters, parted as one of tokens is."""
    num_behind = min(len(suffix), max(num_chars // SUFFIX_SHARE, num_chars - len(prefix)))
    start = max(0, len(prefix) - (num_chars - num_behind))
    return whole_lines(prefix, suffix, start, num_behind)


def _refused(url: str, status: int, content: bytes) -> InputError | EnvironmentFault:
    try:
        told = json.loads(content)["error"]
        message, code = str(told["message"]), told.get("code")
    except (ValueError, KeyError, TypeError):
        message, code = repr(content[:200]), None
    if code == _TOO_LONG:
        return InputTooLong(message)
    kind = InputError if 400 <= status < 500 else EnvironmentFault
    return kind(f"{url} answers {status}: {message}")
