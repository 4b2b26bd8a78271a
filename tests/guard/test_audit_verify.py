"""Every way to tamper with a log is found, and the first broken record is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cynosure.core.errors import NotFound
from cynosure.guard import AuditSettings, verify
from cynosure.guard.audit_chain import START, Head, Link, Sealer
from tests.guard.test_audit import KEY, write

Lines = list[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = tmp_path / "audit.jsonl"
    write(log, 6)
    return log


def test_the_untouched_log_is_intact(path: Path) -> None:
    """The control: what the tampered logs below are compared with."""
    found = verify(path, KEY)
    assert found.is_intact
    assert found.num_records == 6
    assert found.last.mac == json.loads(path.read_text().splitlines()[-1])["mac"]


def _edit(lines: Lines, place: int, old: bytes, new: bytes) -> Lines:
    assert old in lines[place]
    return [*lines[:place], lines[place].replace(old, new), *lines[place + 1 :]]


def _resealed(lines: Lines) -> Lines:
    """What somebody with another key can do."""
    line, _ = Sealer(b"x" * 32).seal(Link(2, json.loads(lines[1])["mac"]), '{"event":"request"}')
    return [*lines[:2], line, *lines[3:]]


def _forked(lines: Lines) -> Lines:
    """A second writer with the right key, whose chain left the first one's at record 2."""
    sealer, link = Sealer(KEY), Link(2, json.loads(lines[1])["mac"])
    line, _ = sealer.seal(link, '{"event":"other"}')
    return [*lines[:2], line, *lines[3:]]


@pytest.mark.parametrize(
    ("tamper", "seq", "why"),
    [
        (lambda lines: _edit(lines, 2, b'"prompt_tokens":7', b'"prompt_tokens":8'), 3, "edited"),
        (lambda lines: _edit(lines, 0, b'"r0"', b'"rX"'), 1, "edited"),
        (lambda lines: _edit(lines, 5, b'"finished"', b'"refused"'), 6, "edited"),
        (lambda lines: _edit(lines, 3, b'"time":"2', b'"time":"1'), 4, "edited"),
        (lambda lines: _edit(lines, 3, b'"seq":4', b'"seq":5'), 4, "edited"),
        (_resealed, 3, "edited"),
        (_forked, 4, "follows another record"),
        (lambda lines: [*lines[:2], *lines[3:]], 3, "missing here: record 4"),
        (lambda lines: lines[1:], 1, "missing here: record 2"),
        (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], 3, "missing here: record 4"),
        (lambda lines: [*lines[:3], lines[1], *lines[3:]], 2, "again"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], 3, "no record"),
        (lambda lines: [*lines[:2], lines[2][:50] + b"\n", *lines[3:]], 3, "no record"),
        (lambda lines: [*lines[:2], lines[2].rstrip(b"\n"), *lines[3:]], 3, "edited"),
        (lambda lines: lines[:5], 6, "record 6 is missing at the end"),
        (lambda lines: lines[:2], 3, "records 3 to 6 are missing at the end"),
        (lambda lines: [*lines[:5], lines[5][:30]], 6, "no record"),
        (lambda lines: [], 1, "records 1 to 6 are missing at the end"),
    ],
)
def test_the_first_broken_record_is_named(
    path: Path, tamper: Callable[[Lines], Lines], seq: int, why: str
) -> None:
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    broken = verify(path, KEY).broken
    assert broken is not None
    assert broken.seq == seq
    assert why in broken.why


def test_every_single_byte_counts(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not verify(path, KEY).is_intact, place
    path.write_bytes(whole)
    assert verify(path, KEY).is_intact


@pytest.mark.parametrize("harm", ["gone", "edited", "empty", "older", "of another log"])
def test_the_head_counts_too(path: Path, harm: str, tmp_path: Path) -> None:
    head = path.with_name("audit.jsonl.head")
    if harm == "gone":
        head.unlink()
    elif harm == "edited":
        head.write_text(head.read_text().replace('"seq": 6', '"seq": 5'))
    elif harm == "empty":
        head.write_bytes(b"")
    elif harm == "older":
        # An old head is genuine, and the log may be ahead of it; only one that saw another record is wrong.
        head.write_bytes(Sealer(KEY).write_head(Head(START, 0)))
        assert verify(path, KEY).is_intact
        head.write_bytes(Sealer(KEY).write_head(Head(Link(6, "0" * 64), 0)))
    else:
        write(tmp_path / "b" / "audit.jsonl", 9)
        head.write_bytes((tmp_path / "b" / "audit.jsonl.head").read_bytes())
    assert not verify(path, KEY).is_intact


def test_another_key_is_named_as_such(path: Path) -> None:
    broken = verify(path, b"x" * 32).broken
    assert broken is not None
    assert (broken.seq, broken.why) == (1, "the log was written with another key")


def test_a_file_put_aside_and_lost_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 12, AuditSettings(max_bytes=1000))
    aside = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert verify(path, KEY).is_intact
    lost = aside[1].read_bytes()
    first = json.loads(lost.splitlines()[0])["seq"]
    aside[1].unlink()
    broken = verify(path, KEY).broken
    assert broken is not None
    assert broken.seq == first
    aside[1].write_bytes(lost.replace(b'"r', b'"x', 1))
    assert verify(path, KEY).broken


def test_files_are_read_in_the_order_of_their_records(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 12, AuditSettings(max_bytes=1000))
    for place, file in enumerate(sorted(tmp_path.glob("audit.jsonl.0*"), reverse=True)):
        file.rename(tmp_path / f"audit.jsonl.old{place}")
    assert verify(path, KEY).num_records == 12


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"audit\.jsonl"):
        verify(tmp_path / "audit.jsonl", KEY)
