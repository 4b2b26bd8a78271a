"""Results: what is written is read back, with its machine; what a figure could not show is refused."""

from __future__ import annotations

import json
import platform
from datetime import date
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from cynosure.core.errors import InputError, NotFound
from cynosure.evaluate.results import describe_machine, read_result, write_result


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    metrics = {"mrr10": 0.512, "n": 60, "by": {"bm25": 0.31}, "fast": True, "later": None}
    path = write_result("docs_search", metrics, "python evals/docs_search.py --write", tmp_path)
    result = read_result("docs_search", tmp_path)
    assert path == tmp_path / "docs_search.json"
    assert result.metrics == metrics
    assert result.command == "python evals/docs_search.py --write"
    assert date.fromisoformat(result.date)
    assert [file.name for file in tmp_path.iterdir()] == ["docs_search.json"], "no scratch file stays"


def test_a_result_says_which_machine_gave_it(tmp_path: Path) -> None:
    write_result("start", {"s": 1.0}, "make bench", tmp_path)
    machine = read_result("start", tmp_path).machine
    assert machine == describe_machine()
    assert machine["python"] == platform.python_version()
    assert machine["torch"] == metadata.version("torch")
    assert set(machine) == {"cpu", "cores", "features", "ram_gib", "system", "python", "torch"}


def test_numpy_floats_become_plain_ones(tmp_path: Path) -> None:
    path = write_result("parity", {"llama": np.float64(1.5e-6)}, "make bench", tmp_path)
    assert json.loads(path.read_text())["metrics"] == {"llama": 1.5e-6}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, 2], {}, {"a": object()}, np.float32(1)])
def test_a_value_that_no_figure_could_show_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match=r"Convert or drop it|Pass at least one"):
        write_result("bad", {"value": value}, "make bench", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["", "gemma2.5"])
def test_a_key_that_no_path_could_reach_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match="not addressable"):
        write_result("bad", {key: 1}, "make bench", tmp_path)


@pytest.mark.parametrize("name", ["../parity", "Parity", "", "a.b"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="result name"):
        write_result(name, {"s": 1}, "make bench", tmp_path)


def test_a_number_without_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no command"):
        write_result("start", {"s": 1}, " ", tmp_path)


def test_a_missing_folder_result_or_bracket_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="repository root"):
        write_result("start", {"s": 1}, "make bench", tmp_path / "absent")
    with pytest.raises(NotFound, match="Run the benchmark"):
        read_result("start", tmp_path)
    (tmp_path / "start.json").write_text('{"metrics": ')
    with pytest.raises(InputError, match="not readable"):
        read_result("start", tmp_path)
    (tmp_path / "start.json").write_text('{"metrics": {}, "invented": 1}')
    with pytest.raises(InputError, match="not readable"):
        read_result("start", tmp_path)
