"""Send events as they happen (server-sent events). Knows nothing of what they hold."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias

from fastapi.responses import StreamingResponse

from cynosure.server.errors import body_of

#: For proxies: pass on each event at once.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_JSON = json.JSONEncoder(ensure_ascii=False)

#: What happens, as fields, or as they are written already (`Blank`).
Event: TypeAlias = Mapping[str, object] | str


class Blank:
    """An event in which a text is left open, and ids of its tokens may be; filled in, it is the same bytes.

    Most events of a stream differ from the one before in these alone: the rest is written once.
    """

    def __init__(self, make: Callable[[str, Sequence[int]], Mapping[str, object]]) -> None:
        """Take what makes the event; it holds the text once, as it is, and ids behind it or not at all."""
        # Nobody can have written these before, so that they are found where they belong, and nowhere else.
        text, token_id = uuid.uuid4().hex, uuid.uuid4().int >> 80
        before, rest = _JSON.encode(make(text, [token_id])).split(f'"{text}"')
        between, *after = rest.split(f"[{token_id}]")
        self._before, self._between, self._after = before, between, after

    def filled(self, text: str, token_ids: Sequence[int] = ()) -> str:
        """The event with a text."""
        ends = [f"{_JSON.encode(token_ids)}{after}" for after in self._after]
        return "".join((self._before, _JSON.encode(text), self._between, *ends))


def event_stream(events: AsyncGenerator[Event]) -> StreamingResponse:
    """A response that sends each event as one, and `[DONE]` after the last.

    A failure on the way becomes the last event, in the one error shape, and no `[DONE]` follows: the status
    has been sent, and a client must not take half an answer for a whole one.
    """
    return StreamingResponse(_lines(events), media_type="text/event-stream", headers=_HEADERS)


def named_event_stream(
    events: AsyncGenerator[Mapping[str, object]], failed: Callable[[int, str], Mapping[str, object]]
) -> StreamingResponse:
    """A response that sends each mapping under the name in its `type`, as Anthropic's clients read them.

    A failure on the way becomes the last event: what `failed` makes of its status and message.
    """
    return StreamingResponse(_named_lines(events, failed), media_type="text/event-stream", headers=_HEADERS)


async def _named_lines(
    events: AsyncGenerator[Mapping[str, object]], failed: Callable[[int, str], Mapping[str, object]]
) -> AsyncIterator[str]:
    try:
        async with aclosing(events):
            async for event in events:
                yield f"event: {event['type']}\n{_line(event)}"
    except Exception as failure:
        status, body = body_of(failure)
        error = body["error"]
        assert isinstance(error, dict)
        event = failed(status, str(error["message"]))
        yield f"event: {event['type']}\n{_line(event)}"


async def _lines(events: AsyncGenerator[Event]) -> AsyncIterator[str]:
    try:
        async with aclosing(events):
            async for event in events:
                yield _line(event)
    except Exception as failure:
        yield _line(body_of(failure)[1])
    else:
        yield "data: [DONE]\n\n"


def _line(event: Event) -> str:
    return f"data: {event if isinstance(event, str) else _JSON.encode(event)}\n\n"
