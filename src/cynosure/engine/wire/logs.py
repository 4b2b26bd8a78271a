"""Carry log records from the engine's process into the server's log. Knows nothing of formats.

A failure goes by its type and its place in the code; its words only where logs may hold content.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cynosure.engine.wire.messages import LogLine
from cynosure.observe.logs import frames


class SendLines(logging.Handler):
    """Sends each record instead of writing it."""

    def __init__(self, send: Callable[[LogLine], None], with_content: bool = False) -> None:
        """`with_content` adds the words of failures."""
        super().__init__()
        self._send = send
        self._with_content = with_content

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; where it can't even be read, logging says so itself."""
        try:
            self._send(self._line(record))
        except Exception:
            self.handleError(record)

    def _line(self, record: logging.LogRecord) -> LogLine:
        failure = record.exc_info[1] if record.exc_info else None
        fields = {name: str(value) for name, value in vars(record).get("fields", {}).items()}
        if failure is not None and self._with_content:
            fields["words"] = str(failure)
        return LogLine(
            record.name,
            record.levelno,
            record.getMessage(),
            fields,
            None if failure is None else type(failure).__name__,
            () if failure is None else tuple(frames(failure)),
        )


def log_again(line: LogLine) -> None:
    """Log a line of the engine's process in this one, if its level is logged here."""
    fields: dict[str, object] = {"process": "engine", **line.fields}
    if line.failure is not None:
        fields |= {"failure": line.failure, "frames": list(line.frames)}
    logging.getLogger(line.logger).log(line.level, "%s", line.message, extra={"fields": fields})
