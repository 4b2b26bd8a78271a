from __future__ import annotations

import fcntl
import socket
from importlib import metadata
from pathlib import Path

import pytest

from cynosure.cli import doctor_machine, doctor_packages, doctor_server
from cynosure.cli.finding import Finding, Weight
from cynosure.cli.main import main
from cynosure.core.errors import MissingPackage
from cynosure.kernels import why_none


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CYNOSURE_HOME", str(tmp_path))
    return tmp_path


def test_what_is_there_is_said(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert main(["doctor", "--port", str(free), "--index-dir", str(index_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    for what in (
        "python", "torch", "processor", "instructions", "memory", "huge pages", "kernels", "extra server",
        "embedder", "index", "audit log", "packed weights", "disk", "port",
    ):  # fmt: skip
        assert [line for line in lines if line[5:].startswith(f"{what}:")], what


def test_what_is_missing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> None:
        raise MissingPackage("the embedder is not installed. Run pip.")

    monkeypatch.setattr(doctor_server, "load_minilm", absent)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["doctor", "--port", port, "--index-dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAIL embedder: the embedder is not installed. Run pip." in said
    assert f"FAIL port: port {port}" in said
    assert "2 of " in said.splitlines()[-1]


def test_it_runs_without_what_a_server_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version

    def without_uvicorn(name: str) -> str:
        if name == "uvicorn":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_uvicorn)
    monkeypatch.setattr("cynosure.cli.doctor._SERVER", "nowhere.at.all")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL extra server: uvicorn not installed" in said
    assert "Run `pip install 'cynosure[server]'`" in said


def test_only_those_extras_fail_without_which_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    weights = {finding.what: finding.weight for finding in doctor_packages.packages()}
    assert weights == {
        "extra server": Weight.BROKEN,
        "extra retrieval": Weight.BROKEN,
        "extra constraints": Weight.LESS,
        "extra telemetry": Weight.FINE,
        "extra memory": Weight.FINE,
        "extra lsp": Weight.FINE,
        "extra traces": Weight.FINE,
    }


def test_an_audit_log_in_use_is_no_failure_and_the_next_folder_is_named(home: Path) -> None:
    (home / "audit").mkdir()
    lock = home / "audit" / "audit.jsonl.lock"
    lock.touch()
    environ = {"CYNOSURE_HOME": str(home)}
    assert doctor_server.audit_log(environ).found == f"free at {home / 'audit'}"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = doctor_server.audit_log(environ)
    assert found.weight is Weight.FINE
    assert found.found == f"free at {home / 'audit' / '2'}; 1 before it in use by other servers"


@pytest.mark.parametrize(
    ("text", "weight"),
    [("always [madvise] never", "ok"), ("[always] madvise never", "ok"), ("always madvise [never]", "note")],
)
def test_huge_pages(tmp_path: Path, text: str, weight: str) -> None:
    file = tmp_path / "enabled"
    file.write_text(text)
    assert doctor_machine.huge_pages(file).weight.value == weight


def test_little_memory_is_noted() -> None:
    assert doctor_machine.memory(1 << 30).weight is Weight.LESS
    assert "control group" in doctor_machine.memory(1 << 30).found


def test_a_variant_that_does_not_exist_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        return "no native kernels were compiled. Run make kernels."

    monkeypatch.setattr(doctor_machine, "why_none", absent)
    (finding,) = doctor_machine.native_kernels({})
    assert finding.weight is Weight.LESS
    assert "make kernels" in finding.line


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")
def test_encoders_that_run_layer_by_layer_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "why_no_encoders", lambda: "the variant 'avx2' has no tiles")
    told = [finding for finding in doctor_machine.native_kernels({}) if finding.what == "encoders"]
    assert ["'avx2' has no tiles" in finding.found for finding in told] == [True]
    monkeypatch.setattr(doctor_machine, "why_no_encoders", lambda: "")
    assert not [finding for finding in doctor_machine.native_kernels({}) if finding.what == "encoders"]


def test_a_line_ends_with_the_remedy() -> None:
    assert Finding("disk", "full", Weight.BROKEN, "Free some").line == "FAIL disk: full. Free some"
    assert Finding("disk", "empty").line == "ok   disk: empty"


def test_packed_weights_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    assert "none yet" in doctor_server.packed_weights(folder).found
    folder.mkdir()
    (folder / "one.packed").write_bytes(bytes(1 << 20))
    found = doctor_server.packed_weights(folder)
    assert "1 models, 0.0 GiB" in found.found
    assert found.weight is Weight.FINE
