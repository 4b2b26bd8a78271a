"""Send events as they happen (server-sent events). Knows nothing of what they hold."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing

from fastapi.responses import StreamingResponse

from cynosure.server.errors import body_of

#: For proxies: pass on each event at once.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_stream(events: AsyncGenerator[Mapping[str, object]]) -> StreamingResponse:
    """A response that sends each mapping as one event, and `[DONE]` after the last.

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


async def _lines(events: AsyncGenerator[Mapping[str, object]]) -> AsyncIterator[str]:
    try:
        async with aclosing(events):
            async for event in events:
                yield _line(event)
    except Exception as failure:
        yield _line(body_of(failure)[1])
    else:
        yield "data: [DONE]\n\n"


def _line(event: Mapping[str, object]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
