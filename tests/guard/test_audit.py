"""Records reach the disk in one chain, from many threads, over rotations, crashes and full disks."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from cynosure.core.errors import AuditFault
from cynosure.guard import AuditLog, AuditRecord, AuditSettings, Outcome, Rules, check, verify
from tests.guard import cases

KEY = b"k" * 32


def record(request_id: str = "r1") -> AuditRecord:
    return AuditRecord(request_id, Outcome.FINISHED, "/v1/chat/completions", model="tiny", prompt_tokens=7)


def write(path: Path, count: int, settings: AuditSettings | None = None) -> None:
    with AuditLog(path, KEY, settings) as log:
        for number in range(count):
            log.append(record(f"r{number}"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "audit.jsonl"


def test_a_record_holds_counts_and_no_content(path: Path) -> None:
    text = f"{cases.EMAIL} {cases.CARD}"
    counted = AuditRecord(
        "r1",
        Outcome.REFUSED,
        "/v1/completions",
        guard={"input": check(text, Rules()).counts},
        error="InputTooLong",
    )
    with AuditLog(path, KEY) as log:
        assert log.append(counted) == 1
    (line,) = path.read_text().splitlines()
    held = json.loads(line)
    assert set(held) == {"seq", "time", "prev", "record", "mac"}
    assert held["record"]["guard"] == {"input": {"card": 1, "email": 1}}
    assert held["record"]["outcome"] == "refused"
    assert cases.EMAIL not in line
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_chain_goes_on_after_a_restart(path: Path) -> None:
    write(path, 3)
    write(path, 2)
    found = verify(path, KEY)
    assert found.is_intact
    assert (found.num_records, found.torn_bytes) == (5, 0)


def test_text_that_json_must_escape_keeps_the_chain_whole(path: Path) -> None:
    with AuditLog(path, KEY) as log:
        log.append(record('x","mac":"' + "0" * 64 + '"}\n{"seq":9,\ud800 号'))
        log.append(record())
    assert verify(path, KEY).is_intact
    assert len(path.read_bytes().splitlines()) == 2


def test_threads_share_one_chain_and_few_syncs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = os.fdatasync

    def counted(file: int) -> None:
        syncs.append(file)
        threading.Event().wait(0.002)
        real(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    numbers: list[int] = []
    with AuditLog(path, KEY) as log:
        threads = [
            threading.Thread(target=lambda: numbers.extend(log.append(record()) for _ in range(20)))
            for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(numbers) == list(range(1, 321))
    assert verify(path, KEY).num_records == 320
    assert len(syncs) < 160


def test_a_record_is_acknowledged_after_it_is_synced_and_in_the_head(path: Path) -> None:
    with AuditLog(path, KEY) as log:
        for number in range(1, 4):
            log.append(record())
            head = json.loads(path.with_name("audit.jsonl.head").read_text())
            assert (head["seq"], head["offset"]) == (number, path.stat().st_size)


def test_syncing_less_often_leaves_the_head_behind_until_the_end(path: Path) -> None:
    with AuditLog(path, KEY, AuditSettings(sync_every_s=3600.0)) as log:
        for _ in range(5):
            log.append(record())
        assert json.loads(path.with_name("audit.jsonl.head").read_text())["seq"] == 0
        assert verify(path, KEY).num_records == 5
    assert json.loads(path.with_name("audit.jsonl.head").read_text())["seq"] == 5


def test_files_are_put_aside_and_the_chain_runs_through_them(path: Path) -> None:
    write(path, 20, AuditSettings(max_bytes=1000))
    aside = sorted(path.parent.glob("audit.jsonl.0*"))
    assert len(aside) >= 5
    write(path, 3, AuditSettings(max_bytes=1000))
    assert verify(path, KEY).is_intact
    assert verify(path, KEY).num_records == 23


def test_another_tool_may_move_the_file_away(path: Path) -> None:
    with AuditLog(path, KEY) as log:
        log.append(record())
        log.append(record())
        path.rename(path.with_name("audit.jsonl-20260101"))
        log.append(record())
    path.rename(path.with_name("audit.jsonl.1"))
    write(path, 2)
    found = verify(path, KEY)
    assert found.is_intact, found
    assert found.num_records == 5


def test_one_process_writes_at_a_time(path: Path) -> None:
    with AuditLog(path, KEY), pytest.raises(AuditFault, match="another process"):
        AuditLog(path, KEY)
    write(path, 1)


@pytest.mark.parametrize("kept", [1, 40, 200])
def test_a_torn_line_is_cut_off_and_said_so(path: Path, kept: int) -> None:
    write(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + lines[-1][:kept])
    before = verify(path, KEY)
    assert before.is_intact
    assert before.torn_bytes == kept
    write(path, 1)
    after = verify(path, KEY)
    assert (after.is_intact, after.num_records, after.torn_bytes) == (True, 5, 0)
    repair = json.loads(path.read_text().splitlines()[3])["record"]
    assert repair["event"] == "repair"
    assert repair["dropped_bytes"] == kept


def test_pages_that_a_power_cut_left_empty_are_cut_off_too(path: Path) -> None:
    write(path, 2)
    with path.open("ab") as file:
        file.write(b"\0" * 4096 + b'{"half":1}\n')
    assert verify(path, KEY).torn_bytes == 4096 + 11
    write(path, 1)
    assert verify(path, KEY).is_intact


def test_records_written_before_a_crash_and_after_the_head_are_kept(path: Path) -> None:
    write(path, 2)
    head = path.with_name("audit.jsonl.head").read_bytes()
    write(path, 2)
    path.with_name("audit.jsonl.head").write_bytes(head)
    write(path, 1)
    assert verify(path, KEY).num_records == 5


def _write_until_killed(path: Path) -> None:
    with AuditLog(path, KEY) as log:
        for number in range(1_000_000):
            log.append(record(f"r{number}"))


def test_a_killed_process_loses_nothing_that_was_acknowledged(path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(path,))
    child.start()
    head = path.with_name("audit.jsonl.head")
    for _ in range(4000):
        if head.exists() and json.loads(head.read_text())["seq"] >= 20:
            break
        threading.Event().wait(0.005)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    told = json.loads(head.read_text())["seq"]
    write(path, 1)
    found = verify(path, KEY)
    assert found.is_intact
    assert found.num_records > told >= 20


@pytest.mark.parametrize("failing", ["write", "fdatasync", "fsync"])
def test_a_full_disk_fails_that_request_only(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    with AuditLog(path, KEY) as log:
        log.append(record())
        with monkeypatch.context() as patched:
            patched.setattr(os, failing, _no_space)
            with pytest.raises(AuditFault, match="No space left"):
                log.append(record("lost"))
        assert log.append(record()) == 2
    assert verify(path, KEY).num_records == 2
    assert "lost" not in path.read_text()


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_after_a_failure_that_can_t_be_taken_back_nothing_follows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditLog(path, KEY) as log:
        log.append(record())
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _no_space)
            patched.setattr(os, "ftruncate", _no_space)
            with pytest.raises(AuditFault):
                log.append(record())
        with pytest.raises(AuditFault, match="taken back"):
            log.append(record())
    write(path, 1)
    assert verify(path, KEY).is_intact


def test_a_closed_log_takes_nothing(path: Path) -> None:
    log = AuditLog(path, KEY)
    log.close()
    log.close()
    with pytest.raises(AuditFault, match="closed"):
        log.append(record())


@pytest.mark.parametrize("harm", ["cut", "head gone", "head edited", "edited", "other key"])
def test_a_log_that_was_tampered_with_is_not_gone_on_with(path: Path, harm: str) -> None:
    write(path, 3)
    head, key = path.with_name("audit.jsonl.head"), KEY
    if harm == "cut":
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    elif harm == "head gone":
        head.unlink()
    elif harm == "head edited":
        head.write_text(head.read_text().replace('"seq": 3', '"seq": 2'))
    elif harm == "edited":
        with path.open("ab") as file:
            file.write(path.read_bytes().splitlines(keepends=True)[-1].replace(b'"seq":3', b'"seq":4'))
    else:
        key = b"o" * 32
    evidence = path.read_bytes()
    with pytest.raises(AuditFault, match="audit verify"):
        AuditLog(path, key)
    assert path.read_bytes() == evidence
