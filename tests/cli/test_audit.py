"""`cynosure audit verify` names what is broken, and its exit status says so."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from cynosure.cli import audit
from cynosure.core.errors import NotFound
from cynosure.guard import AuditLog, AuditRecord, Outcome, read_or_create_key


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    audit.add_arguments(parser)
    return parser.parse_args(given)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CYNOSURE_HOME", str(tmp_path))
    monkeypatch.delenv("CYNOSURE_AUDIT_KEY", raising=False)
    folder = audit.audit_folder({"CYNOSURE_HOME": str(tmp_path)})
    key = read_or_create_key({}, folder / audit.KEY_NAME)
    with AuditLog(folder / audit.LOG_NAME, key) as log:
        for number in range(3):
            log.append(AuditRecord(f"r{number}", Outcome.FINISHED, "/v1/completions"))
    return folder / audit.LOG_NAME


def test_an_intact_log(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.run(parsed("verify")) == 0
    assert capsys.readouterr().out.startswith("intact: 3 records")


def test_a_broken_record_is_named(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_text(log.read_text().replace('"r1"', '"r9"'))
    assert audit.run(parsed("verify", "--log", str(log))) == 1
    assert "BROKEN at record 2 (audit.jsonl, line 2): it was edited" in capsys.readouterr().out


def test_all_fields_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log.open("ab") as file:
        file.write(b'{"seq":4')
    assert audit.run(parsed("verify", "--json")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["is_intact"], shown["num_records"], shown["torn_bytes"]) == (True, 3, 8)


def test_no_log_and_no_key(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no audit key"):
        audit.run(parsed("verify", "--log", str(tmp_path / "none.jsonl")))


def test_where_the_log_lies() -> None:
    assert audit.audit_folder({"CYNOSURE_HOME": "/srv/c"}) == Path("/srv/c/audit")
    assert audit.audit_folder({"XDG_STATE_HOME": "/var/s"}) == Path("/var/s/cynosure/audit")
    assert audit.audit_folder({}).parts[-4:] == (".local", "state", "cynosure", "audit")
