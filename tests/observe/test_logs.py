from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cynosure.observe import logs
from cynosure.observe.logs import JsonLines, LogFormat, TextLines

SECRET = "a prompt that nobody else may read"


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger as a new process has it."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    try:
        yield logger
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def _record(formatter: logging.Formatter, fields: dict[str, object], failure: BaseException | None) -> str:
    info = None if failure is None else (type(failure), failure, failure.__traceback__)
    record = logging.LogRecord("cynosure.x", logging.ERROR, "x.py", 1, "it %s", ("failed",), info)
    vars(record)["fields"] = fields
    return formatter.format(record)


def _failed() -> BaseException:
    try:
        raise KeyError(SECRET)
    except KeyError as failure:
        return failure


def test_a_record_is_one_line_of_json() -> None:
    entry = json.loads(_record(JsonLines(), {"status": 200, "route": "/v1/\n"}, None))
    time = entry.pop("time")
    assert time.endswith("+00:00")
    assert entry == {
        "level": "error",
        "logger": "cynosure.x",
        "message": "it failed",
        "status": 200,
        "route": "/v1/\n",
    }
    assert "\n" not in _record(JsonLines(), {"route": "/v1/\n"}, _failed())


def test_a_record_is_one_line_of_text() -> None:
    assert _record(TextLines(), {"status": 200, "route": "/x"}, None) == "it failed status=200 route=/x"


@pytest.mark.parametrize("formatter", [JsonLines, TextLines])
def test_a_failure_is_its_type_and_place_and_its_words_only_where_asked_for(
    formatter: type[JsonLines] | type[TextLines],
) -> None:
    line = _record(formatter(), {}, _failed())
    assert "KeyError" in line
    assert "in _failed" in line
    assert SECRET not in line
    assert SECRET in _record(formatter(with_content=True), {}, _failed())


def test_a_deep_failure_is_written_in_part() -> None:
    def deep(depth: int) -> None:
        if not depth:
            raise ValueError(SECRET)
        deep(depth - 1)

    with pytest.raises(ValueError, match="prompt") as failed:
        deep(100)
    assert len(logs.frames(failed.value)) == logs.MAX_FRAMES


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_ours_are_logged_from_the_level_on_and_others_from_warnings(log_format: LogFormat) -> None:
    stream = io.StringIO()
    ours, others = logging.getLogger("cynosure.observe.test"), logging.getLogger("cynosures.other")
    with bare_root():
        logs.configure(logging.StreamHandler(stream), log_format, logging.INFO)
        logs.write(ours, logging.INFO, "ours-info", {"a": 1, "b": None})
        ours.debug("ours-debug")
        others.info("others-info")
        others.warning("others-warning")
    lines = stream.getvalue().splitlines()
    assert ["ours-info" in lines[0], "others-warning" in lines[1], len(lines)] == [True, True, 2]
    assert ("a=1" in lines[0]) is (log_format == "text")
    assert "None" not in lines[0]
    assert "null" not in lines[0]


def test_a_program_s_own_logging_stays() -> None:
    theirs = logging.NullHandler()
    with bare_root() as root:
        root.addHandler(theirs)
        logs.configure(logging.StreamHandler(io.StringIO()), "json", logging.DEBUG)
        assert root.handlers == [theirs]
