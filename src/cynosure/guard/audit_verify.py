"""Check an audit log from its first record to its head. Changes nothing.

What a chain can't show: that the whole log, head included, was put back to an earlier state, or that who
has the key rewrote it. Keep the head, or its number and code, somewhere else for that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import NotFound
from cynosure.guard.audit_chain import START, Head, Line, Link, Sealer

_NOT_LINES = (".head", ".lock", ".part", ".key")
_SEQ = re.compile(rb'\{"seq":([0-9]{1,18}),')
_MAX_LINE = 2**20


@dataclass(frozen=True)
class Broken:
    """The first record that is not as it was written."""

    seq: int
    file: str
    line: int
    why: str


@dataclass(frozen=True)
class Verification:
    """What a log holds. `torn_bytes` stand behind the last record after a crash, and break nothing."""

    num_records: int
    last: Link
    broken: Broken | None = None
    torn_bytes: int = 0

    @property
    def is_intact(self) -> bool:
        """Whether every record that was ever acknowledged is there, unchanged and in its place."""
        return self.broken is None


def verify(path: Path, key: bytes) -> Verification:
    """Follow the chain through all files of a log, and compare its end with the head.

    Raises:
        NotFound: There is no such log.
    """
    files = _files(path)
    head_path = path.with_name(f"{path.name}.head")
    if not files and not head_path.exists():
        raise NotFound(f"audit log {path} does not exist. Name one that was written.")
    walk = _Walk(Sealer(key), head_path.read_bytes() if head_path.exists() else None)
    for place, file in enumerate(files):
        broken = walk.through(file, is_last=place == len(files) - 1)
        if broken:
            return walk.result(broken)
    return walk.result(walk.end(head_path.name))


class _Walk:
    """Where the chain stands after the lines read so far."""

    def __init__(self, sealer: Sealer, head: bytes | None) -> None:
        self.sealer = sealer
        self.written_head = head
        self.head: Head | None = sealer.read_head(head) if head is not None else None
        self.link = START
        self.torn = 0

    def result(self, broken: Broken | None) -> Verification:
        return Verification(self.link.seq, self.link, broken, self.torn)

    def through(self, file: Path, is_last: bool) -> Broken | None:
        for number, (line, offset) in enumerate(_lines(file), 1):
            found = self.sealer.read(line.removesuffix(b"\n")) if line.endswith(b"\n") else None
            if found is None and is_last and self._reached_head():
                self.torn = file.stat().st_size - offset
                return None
            why, seq = self._fault(found)
            if why:
                return Broken(seq, file.name, number, why)
            assert found is not None, "what is no record has a fault"
            self.link = Link(found.seq, found.mac)
        return None

    def end(self, head_name: str) -> Broken | None:
        seq = self.link.seq + 1
        if self.written_head is None:
            return Broken(seq, head_name, 1, "the head is missing, so records may be missing at the end")
        if self.head is None:
            return Broken(seq, head_name, 1, self._key_hint() or "the head was edited")
        if self.link.seq < self.head.link.seq:
            last = self.head.link.seq
            gone = f"record {seq} is" if seq == last else f"records {seq} to {last} are"
            return Broken(seq, head_name, 1, f"{gone} missing at the end: the log was cut")
        return None

    def _reached_head(self) -> bool:
        return self.head is not None and self.link.seq >= self.head.link.seq

    def _fault(self, found: Line | None) -> tuple[str, int]:
        """What is wrong with the line that should hold the next record, and with which record."""
        due = self.link.seq + 1
        if found is None:
            return "it is no record", due
        if not found.is_genuine:
            return self._key_hint() or "it was edited", due
        if found.seq > due:
            return f"it is missing here: record {found.seq} stands in its place", due
        if found.seq < due:
            return f"it stands again, or late: record {due} was expected", found.seq
        if found.prev != self.link.mac:
            return "it follows another record than the one before it", due
        if self.head and found.seq == self.head.link.seq and found.mac != self.head.link.mac:
            return "it is not the record that the head saw", due
        return "", due

    def _key_hint(self) -> str:
        is_other = self.written_head is not None and self.sealer.is_other_key(self.written_head)
        return "the log was written with another key" if is_other else ""


def _files(path: Path) -> list[Path]:
    """All files of a log in the order of their first records, whatever they were renamed to."""
    found = [
        file
        for file in path.parent.glob(f"{path.name}*")
        if file.is_file() and not file.name.endswith(_NOT_LINES) and file.stat().st_size
    ]
    return sorted(found, key=lambda file: (_first_seq(file, path), file.name))


def _first_seq(file: Path, path: Path) -> int:
    """The number of a file's first record; a file that starts with none comes where its name says."""
    with file.open("rb") as opened:
        found = _SEQ.match(opened.read(64))
    if found:
        return int(found[1])
    return sys.maxsize if file == path else 0


def _lines(file: Path) -> Iterator[tuple[bytes, int]]:
    """Yield lines, and where each starts."""
    offset = 0
    with file.open("rb") as opened:
        while line := opened.readline(_MAX_LINE):
            yield line, offset
            offset += len(line)
