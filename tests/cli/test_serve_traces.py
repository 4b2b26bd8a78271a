"""What options say of traces, and which of them contradict each other."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.serve_traces import add_trace_arguments, traces_of, with_traces
from cynosure.core.errors import EnvironmentFault, InputError
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.attended.trace_folder import FolderLimits


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_trace_arguments(parser)
    parser.add_argument("--no-audit", action="store_true")
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ([], TraceLevel.L3),
        (["--no-audit"], TraceLevel.L2),
        (["--trace-level", "L1"], TraceLevel.L1),
        (["--trace-level", "off"], TraceLevel.OFF),
    ],
)
def test_in_memory(words: list[str], level: TraceLevel) -> None:
    arguments = parsed(*words, "--trace-text-hours", "2")
    keeper = traces_of(arguments)
    assert (keeper.settings.level, keeper.watches_all) == (level, False)
    assert keeper.settings.text_hours == 2
    options = ServeOptions(Path("."))
    assert with_traces(options, arguments) is options


@pytest.mark.parametrize(("words", "level"), [([], TraceLevel.L1), (["--trace-level", "L3"], TraceLevel.L3)])
def test_in_files(tmp_path: Path, words: list[str], level: TraceLevel) -> None:
    limits = ["--trace-days", "7", "--trace-max-bytes", "2MiB", "--trace-text-hours", "0.5"]
    arguments = parsed("--traces", str(tmp_path / "t"), *words, *limits)
    keeper = traces_of(arguments)
    assert (keeper.settings.level, keeper.watches_all) == (level, True)
    assert keeper._folder is not None
    assert keeper._folder.limits == FolderLimits(7.0, 2 * 2**20, 0.5)
    assert keeper.settings.text_hours == 0.5
    assert with_traces(ServeOptions(Path(".")), arguments).insight.is_always
    with pytest.raises(EnvironmentFault, match="another server"):
        traces_of(arguments)
    keeper.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trace-days", "7"], "--trace-days is of files"),
        (["--trace-max-bytes", "1MiB"], "--trace-max-bytes is of files"),
        (["--trace-text-hours", "0"], "--trace-text-hours is 0"),
        (["--traces", "f", "--trace-days", "nan"], "--trace-days is nan"),
        (["--traces", "f", "--trace-level", "off"], "keeps nothing"),
        (["--trace-level", "L3", "--no-audit"], "who reads them"),
    ],
)
def test_what_does_not_fit(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        traces_of(parsed(*words))
