"""The terminal's commands run a model as `cynosure serve` would."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from cynosure.cli.local_arguments import add_local_arguments, load_named
from cynosure.cli.main import main
from cynosure.cli.serve_models import add_model_arguments
from cynosure.core.errors import InputError, UnknownOption
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine

SHARED = ("--dtype", "--quantization", "--kv-cache-dtype", "--num-speculative-tokens")


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_local_arguments(parser)
    return parser.parse_args(given)


def core_of(checkpoint: Path, *given: str) -> tuple[EngineCore, str]:
    model = load_named(str(checkpoint), parsed(*given))
    try:
        assert isinstance(model.engine, Engine)
        return model.engine._core, str(model.engine._core._runner.graph)
    finally:
        model.close()


def test_flags_are_called_as_the_server_s() -> None:
    ours, theirs = argparse.ArgumentParser(), argparse.ArgumentParser()
    add_local_arguments(ours)
    add_model_arguments(theirs)
    for flag in SHARED:
        assert flag in ours.format_help()
        assert flag in theirs.format_help()


def test_what_is_asked_is_what_runs(checkpoint: Path) -> None:
    plain, graph = core_of(checkpoint, "--dtype", "float32")
    assert plain.settings.num_speculative_tokens == 0
    assert "Coded" not in graph
    core, coded = core_of(
        checkpoint, "--dtype", "float32", "--quantization", "int8", "--kv-cache-dtype", "int8",
        "--num-speculative-tokens", "4",
    )  # fmt: skip
    assert (core.settings.num_speculative_tokens, core.settings.kv_cache_dtype) == (4, "int8")
    assert coded != graph


def test_guessing_changes_no_word(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for more in ([], ["--num-speculative-tokens", "8"]):
        command = ["complete", "--model", str(checkpoint), "--dtype", "float32", "--max-tokens", "40"]
        assert main([*command, *more, "the star is called the star"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_what_can_t_be_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UnknownOption, match="int3"):
        load_named(str(checkpoint), parsed("--quantization", "int3"))
    with pytest.raises(InputError, match="num_speculative_tokens is -1"):
        load_named(str(checkpoint), parsed("--num-speculative-tokens", "-1"))
