"""Write log records as lines of JSON or text, without content. Knows nothing of what happened.

A failure is written by its type and its place in the code. Its words may quote a request, so that they are
left out unless asked for.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["json", "text"]

#: Frames of a failure that are written, the innermost.
MAX_FRAMES = 20

Fields = Mapping[str, str | int | float | None]


def write(logger: logging.Logger, level: int, message: str, fields: Fields) -> None:
    """Log a message with fields beside it; a field that is `None` is not written."""
    given = {name: value for name, value in fields.items() if value is not None}
    logger.log(level, message, extra={"fields": given})


def configure(
    handler: logging.Handler, log_format: LogFormat, level: int, *, with_content: bool = False
) -> None:
    """Send what is logged from `level` on to one handler, of other packages no less than warnings.

    Where a program that we are part of has set up its logging, that stays.
    """
    handler.setFormatter(
        JsonLines(with_content=with_content) if log_format == "json" else TextLines(with_content=with_content)
    )
    handler.addFilter(_is_wanted)
    logging.basicConfig(handlers=[handler], level=level)


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def __init__(self, *, with_content: bool = False) -> None:
        """`with_content` adds the words of failures."""
        super().__init__()
        self._with_content = with_content

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, who logs, what, and the record's fields."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= _fields_of(record)
        failure = _failure_of(record)
        if failure is not None:
            entry["failure"] = type(failure).__name__
            entry["frames"] = frames(failure)
            if self._with_content:
                entry["words"] = str(failure)
        return json.dumps(entry, ensure_ascii=False)


class TextLines(logging.Formatter):
    """One line a record, then one for each frame of its failure."""

    def __init__(self, *, with_content: bool = False) -> None:
        """`with_content` adds the words of failures."""
        super().__init__()
        self._with_content = with_content

    def format(self, record: logging.LogRecord) -> str:
        """The message, and fields as `name=value`."""
        words = [record.getMessage(), *(f"{name}={value}" for name, value in _fields_of(record).items())]
        failure = _failure_of(record)
        if failure is None:
            return " ".join(words)
        words.append(f"failure={type(failure).__name__}")
        if self._with_content:
            words.append(str(failure))
        return "\n  ".join([" ".join(words), *frames(failure)])


def frames(failure: BaseException) -> list[str]:
    """Where a failure came from, the outermost first; no line of source and no value."""
    stack = traceback.extract_tb(failure.__traceback__)[-MAX_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in stack]


def _is_wanted(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "cynosure"


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    return dict(vars(record).get("fields", {}))


def _failure_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
