from __future__ import annotations

import argparse
import subprocess
import sys
from types import ModuleType

import pytest

import cynosure
from cynosure.cli import main as cli
from cynosure.core.errors import IndexFault


def _command(monkeypatch: pytest.MonkeyPatch, failure: BaseException | None) -> None:
    """Have `cynosure doctor` do nothing, or fail."""
    module = ModuleType("fake_command")

    def run(_: argparse.Namespace) -> int:
        if failure is not None:
            raise failure
        return 7

    vars(module).update(add_arguments=lambda parser: parser.add_argument("--x"), run=run)
    monkeypatch.setitem(sys.modules, "fake_command", module)
    monkeypatch.setattr(cli, "COMMANDS", {"doctor": cli.Command("fake_command", "does nothing")})


def test_a_command_gets_its_arguments_and_gives_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, None)
    assert cli.main(["doctor", "--x", "1"]) == 7


def test_a_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _command(monkeypatch, IndexFault("the index\nis damaged. Build it again."))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr()
    assert said.err == "error: the index is damaged. Build it again.\n"
    assert said.out == ""


def test_a_package_of_an_extra_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _command(monkeypatch, ModuleNotFoundError("No module named 'apsw.ext'", name="apsw.ext"))
    assert cli.main(["doctor"]) == 1
    assert "pip install 'cynosure[retrieval]'" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for failure in (KeyError("ours"), ModuleNotFoundError("ours", name="cynosure.absent")):
        _command(monkeypatch, failure)
        with pytest.raises(type(failure)):
            cli.main(["doctor"])


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _command(monkeypatch, KeyboardInterrupt())
    assert cli.main(["doctor"]) == cli.INTERRUPTED


@pytest.mark.parametrize("arguments", [[], ["brew"], ["--brew"], ["explain", "--mask"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: cynosure" in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said and command.summary[:20] in said for name, command in cli.COMMANDS.items())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"cynosure {cynosure.__version__}\n"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: cynosure {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
def test_what_shows_help_or_listens_takes_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from cynosure.cli.main import main\n"
        f"try: main({arguments})\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
