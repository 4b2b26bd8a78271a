from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.core.errors import MissingPackage


def test_what_is_there_is_said(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert main(["doctor", "--port", str(free), "--index-dir", str(index_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    for what in ("python", "torch", "processor", "instructions", "embedder", "index", "port"):
        assert [line for line in lines if line.split()[1] == f"{what}:"], what


def test_what_is_missing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> None:
        raise MissingPackage("the embedder is not installed. Run pip.")

    monkeypatch.setattr("cynosure.cli.doctor.load_minilm", absent)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["doctor", "--port", port, "--index-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAIL embedder: the embedder is not installed. Run pip." in said
    assert f"FAIL port: port {port}" in said
