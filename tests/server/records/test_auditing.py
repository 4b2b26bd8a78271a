"""Every request leaves one record in a chain that holds, and nothing is served that can't be recorded."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cynosure.core.errors import AuditFault
from cynosure.guard import AuditLog, AuditRecord, Outcome, Policy, Rules, verify
from cynosure.guard.policy import Action
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight
from tests.guard import cases
from tests.server.fakes import FakeCompleter, services, serving
from tests.server.keyrings import ADMIN, ANNA, LINES, bearer

KEY = b"k" * 32
COMPLETE = {"model": "fake-completer", "prompt": "a b", "max_tokens": 3}
STREAM = COMPLETE | {"stream": True}


@dataclass
class Audited:
    """A server, and its log."""

    url: str
    path: Path
    completer: FakeCompleter

    def post(self, body: dict[str, object], key: str = ANNA, path: str = "/v1/completions") -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, headers=bearer(key))

    def records(self, event: str = "request") -> list[dict[str, object]]:
        lines = [json.loads(line)["record"] for line in self.path.read_text().splitlines()]
        return [record for record in lines if record["event"] == event]


@contextmanager
def audited(
    folder: Path, completer: FakeCompleter | None = None, policy: Policy | None = None
) -> Iterator[Audited]:
    path = folder / "audit" / "audit.jsonl"
    writer = AuditWriter(AuditLog(path, KEY))
    made = completer or FakeCompleter(prefix=" w")
    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    oversight = Oversight(policy or Policy(), writer)
    try:
        with serving(lambda _: services(made), admission=admission, oversight=oversight) as url:
            yield Audited(url, path, made)
    finally:
        oversight.close()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_record_is_there_when_the_answer_is(tmp_path: Path) -> None:
    with audited(tmp_path) as house:
        answer = house.post(COMPLETE)
        (record,) = house.records()
    assert answer.status_code == 200
    assert record.pop("duration_s") > 0  # type: ignore[operator]
    assert record.pop("first_token_s") > 0  # type: ignore[operator]
    assert len(str(record.pop("tenant"))) == 32
    assert record == {
        "event": "request",
        "request_id": answer.headers["X-Request-Id"],
        "outcome": "finished",
        "endpoint": "/v1/completions",
        "model": "fake-completer",
        "end_user": "",
        "principal": "anna",
        "method": "POST",
        "status": 200,
        "prompt_tokens": 2,
        "cached_tokens": 0,
        "completion_tokens": 3,
        "finish": "length",
        "guard": {},
        "error": "",
    }
    assert verify(house.path, KEY).is_intact


def test_every_way_to_end_is_a_record(tmp_path: Path) -> None:
    policy = Policy(input=Rules(card=Action.BLOCK))
    with audited(tmp_path, FakeCompleter(prefix=" w", pause_s=0.01), policy) as house:
        house.post(COMPLETE, key="no-key-of-ours-00001")
        house.post(COMPLETE | {"absent": 1})
        house.post(COMPLETE | {"prompt": f"pay {cases.CARD}"})
        house.post(COMPLETE | {"model": "absent"})
        house.post({"question": "merge"}, path="/v1/ask")
        httpx.get(f"{house.url}/v1/models", headers=bearer(ADMIN))
        house.completer.fails_at = 0
        house.post(COMPLETE)
        house.completer.fails_at = 2
        house.post(STREAM)
        house.completer.fails_at = None
        with httpx.stream(
            "POST", f"{house.url}/v1/completions", json=STREAM | {"max_tokens": 9999}, headers=bearer(ANNA)
        ):
            pass
        until(lambda: len(house.records()) == 9)
        found = [
            (record["outcome"], record["status"], record["error"], record["guard"])
            for record in house.records()
        ]
    assert found == [
        ("refused", 401, "InvalidApiKey", {}),
        ("refused", 400, "", {}),
        ("refused", 400, "ContentPolicyViolation", {"input": {"card": 1}}),
        ("refused", 404, "NotFound", {}),
        ("finished", 200, "", {}),
        ("finished", 200, "", {}),
        ("failed", 500, "ZeroDivisionError", {}),
        ("failed", 200, "ZeroDivisionError", {}),
        ("cancelled", 200, "", {}),
    ]
    assert "4111" not in cases.without_ids(house.path.read_text())
    assert verify(house.path, KEY).is_intact


def test_one_changed_byte_is_found(tmp_path: Path) -> None:
    """The positive control of "intact"."""
    with audited(tmp_path) as house:
        for _ in range(3):
            house.post(COMPLETE)
    assert verify(house.path, KEY).num_records == 3
    written = bytearray(house.path.read_bytes())
    at = written.index(b"anna", written.index(b'"seq":2'))
    written[at] ^= 1
    house.path.write_bytes(bytes(written))
    broken = verify(house.path, KEY).broken
    assert broken is not None
    assert broken.seq == 2


def test_a_stream_is_announced_before_its_first_piece(tmp_path: Path) -> None:
    with audited(tmp_path, FakeCompleter(prefix=" w", pause_s=0.05)) as house:
        body = STREAM | {"max_tokens": 20}
        with httpx.stream("POST", f"{house.url}/v1/completions", json=body, headers=bearer(ANNA)) as response:
            lines = response.iter_lines()
            next(lines)
            (begun,) = house.records("begun")
            assert begun["request_id"] == response.headers["X-Request-Id"]
            assert begun["principal"] == "anna"
            assert house.records() == []
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert [record["outcome"] for record in house.records()] == ["finished"]
    house_is = verify(house.path, KEY)
    assert (house_is.is_intact, house_is.num_records) == (True, 2)


@pytest.mark.parametrize("body", [COMPLETE, STREAM])
def test_where_the_log_is_gone_nothing_is_served(tmp_path: Path, body: dict[str, object]) -> None:
    with audited(tmp_path) as house:
        house.post(COMPLETE)
        shutil.rmtree(house.path.parent)
        house.path.parent.write_text("in the way")
        for _ in range(2):
            refused = house.post(body)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "audit_fault"
            assert refused.headers["Retry-After"]
            assert str(tmp_path) not in refused.text
            assert "w0" not in refused.text
        given = house.completer.num_given
        house.post(body)
        assert house.completer.num_given == given, "nothing is computed either"
        assert httpx.get(f"{house.url}/live").status_code == 200
        message = httpx.post(f"{house.url}/v1/messages", json={}, headers=bearer(ANNA))
        assert message.json()["type"] == "error"
        house.path.parent.unlink()
        house.path.parent.mkdir()
        until(lambda: house.post(body).status_code == 200)
        assert house.records()[-1]["outcome"] == "finished"


def test_probes_and_the_page_leave_no_record(tmp_path: Path) -> None:
    with audited(tmp_path) as house:
        for path in ("/live", "/", "/static/page.js", "/ready", "/metrics"):
            httpx.get(f"{house.url}{path}", headers=bearer(ADMIN))
        assert house.path.read_text() == ""


def _record(number: int) -> AuditRecord:
    return AuditRecord(f"r{number}", Outcome.FINISHED, "/v1/ask")


def test_records_that_come_together_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", KEY)
    groups: list[int] = []
    may_write = threading.Event()
    append = log.append

    def slow(*records: AuditRecord) -> int:
        groups.append(len(records))
        may_write.wait(5)
        return append(*records)

    monkeypatch.setattr(log, "append", slow)
    writer = AuditWriter(log)

    async def run() -> None:
        writing = [asyncio.ensure_future(writer.write(_record(number))) for number in range(50)]
        await asyncio.sleep(0.05)
        may_write.set()
        await asyncio.gather(*writing)

    asyncio.run(run())
    writer.close()
    assert sum(groups) == 50
    assert len(groups) <= 3
    assert verify(tmp_path / "audit.jsonl", KEY).num_records == 50


def test_a_record_is_written_though_its_caller_leaves(tmp_path: Path) -> None:
    writer = AuditWriter(AuditLog(tmp_path / "audit.jsonl", KEY))

    async def run() -> None:
        writing = asyncio.ensure_future(writer.write(_record(1)))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())
    writer.close()
    assert verify(tmp_path / "audit.jsonl", KEY).num_records == 1


def test_a_failed_write_is_told_and_forgotten_after_one_that_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", KEY)
    writer = AuditWriter(log)
    append = log.append

    def broken(*records: AuditRecord) -> int:
        raise AuditFault("the disk is full")

    async def run() -> None:
        monkeypatch.setattr(log, "append", broken)
        with pytest.raises(AuditFault, match="full"):
            await writer.write(_record(1))
        assert writer.is_broken
        monkeypatch.setattr(log, "append", append)
        await writer.write(_record(2))
        assert not writer.is_broken

    asyncio.run(run())
    writer.close()
