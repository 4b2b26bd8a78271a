"""Files of traces: found again, joined, let go, erased to the byte; nothing is there half."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import Trace, TraceSummary, trace_of
from cynosure.server.attended import trace_folder
from cynosure.server.attended.trace_folder import FANOUT, FolderLimits, TraceFolder, by_day
from cynosure.server.attended.trace_query import TraceQuery
from tests.insight.trace_cases import CANARY, CREATED_S, half_watched, report
from tests.server.attended.test_trace_table import assert_same

DAY_S = 86_400.0


def anybody(one: TraceSummary) -> bool:
    return True


def trace(name: str, *, later_s: float = 0.0, level: TraceLevel = TraceLevel.L3, **changes: object) -> Trace:
    changes = {"created_s": CREATED_S + later_s, **changes}
    return trace_of(report(name, **changes), level)


def write(folder: TraceFolder, traces: Sequence[Trace]) -> None:
    for day, own in by_day(traces):
        folder.write(day, own)
        folder.join(day)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("*.parquet"))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[TraceFolder]:
    made = TraceFolder(tmp_path / "traces")
    yield made
    made.close()


@pytest.fixture
def path(folder: TraceFolder, tmp_path: Path) -> Path:
    return tmp_path / "traces"


def test_answers_are_found_again(folder: TraceFolder, path: Path) -> None:
    traces = [trace(f"r-{n}", later_s=n, tokens=half_watched(n, seed=n)) for n in range(9)]
    write(folder, traces[:4])
    write(folder, traces[4:])
    for one in traces:
        (found,) = folder.find(anybody, one.summary.request_id)
        assert_same(found, one)
    assert folder.find(anybody, "r-99") == []
    assert folder.find(lambda one: one.tenant == "another", "r-1") == []
    assert folder.num_bytes == sum((path / name).stat().st_size for name in names(path))
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.iterdir())


def test_answers_of_one_request_come_in_their_order(folder: TraceFolder) -> None:
    write(folder, [trace("r", index=2), trace("other"), trace("r", index=0, later_s=1)])
    write(folder, [trace("r", index=1, later_s=2)])
    assert [one.summary.index for one in folder.find(anybody, "r")] == [0, 1, 2]


def test_rows_are_read_by_groups(folder: TraceFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with several row groups of tokens, at their edges."""
    monkeypatch.setattr(trace_folder, "GROUP_ROWS", 4)
    traces = [trace(f"r-{n}", tokens=half_watched(n, seed=n)) for n in (0, 1, 2, 3, 4, 5, 0, 7)]
    write(folder, traces)
    for one in traces:
        found = folder.find(anybody, one.summary.request_id)
        assert_same(found[0], one)


def test_small_files_are_joined(folder: TraceFolder, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_folder, "FANOUT", 3)
    count = 3 * 3 + 1
    for n in range(count):
        write(folder, [trace(f"r-{n}", later_s=n, tokens=half_watched(2, seed=n))])
    last = f"{count - 1:06d}"
    assert names(path) == [
        "2026-11-22.000000-000008.parquet",
        f"2026-11-22.{last}-{last}.parquet",
    ]
    for n in (0, 4, 8, 9):
        (found,) = folder.find(anybody, f"r-{n}")
        assert_same(found, trace(f"r-{n}", later_s=n, tokens=half_watched(2, seed=n)))


def test_what_a_crash_left_is_put_right(folder: TraceFolder, path: Path) -> None:
    for n in range(FANOUT - 1):
        write(folder, [trace(f"r-{n}", later_s=n)])
    before = {name: (path / name).read_bytes() for name in names(path)}
    write(folder, [trace("last", later_s=9)])
    # Joined and renamed, and the parts not yet removed; and a write that was under way.
    for name, data in before.items():
        (path / name).write_bytes(data)
    (path / "2026-11-22.000099-000099.part").write_bytes(b"half")
    folder.close()
    again = TraceFolder(path)
    assert names(path) == [f"2026-11-22.000000-{FANOUT - 1:06d}.parquet"]
    assert not list(path.glob("*.part"))
    assert len(again.find(anybody, "r-3")) == 1
    again.close()


def test_the_newest_are_listed(folder: TraceFolder) -> None:
    for days in (0, 2, 1):
        write(folder, [trace(f"r-{days}-{n}", later_s=days * DAY_S + n) for n in range(3)])
    # Begun first and written last: a long answer.
    write(folder, [trace("long", later_s=-1, tenant="tenant-b", model="other")])
    listed = [one.request_id for one in folder.newest(TraceQuery(4))]
    assert listed == ["r-2-2", "r-2-1", "r-2-0", "r-1-2"]
    whole = [one.request_id for one in folder.newest(TraceQuery(100))]
    assert whole == [f"r-{days}-{n}" for days in (2, 1, 0) for n in (2, 1, 0)] + ["long"]
    assert [one.request_id for one in folder.newest(TraceQuery(9, tenant="tenant-b"))] == ["long"]
    assert [one.request_id for one in folder.newest(TraceQuery(9, model="other"))] == ["long"]
    since = TraceQuery(9, since_s=CREATED_S + DAY_S + 1, before_s=CREATED_S + 2 * DAY_S + 1)
    assert [one.request_id for one in folder.newest(since)] == ["r-2-0", "r-1-2", "r-1-1"]


def test_erasing_leaves_no_byte(folder: TraceFolder, path: Path) -> None:
    mine = [trace(f"mine-{n}", tenant="tenant-mine", tokens=half_watched(3)) for n in range(2)]
    yours = [trace(f"yours-{n}", tenant="tenant-yours", tokens=half_watched(4)) for n in range(2)]
    write(folder, [mine[0], yours[0], mine[1]])
    write(folder, [yours[1]])
    write(folder, [trace("alone", tenant="tenant-mine", later_s=DAY_S)])
    assert in_bytes(path, "tenant-mine")
    assert folder.erase(lambda one: one.request_id == "mine-1") == 1
    assert not in_bytes(path, "mine-1")
    assert in_bytes(path, "mine-0")
    assert folder.erase(lambda one: one.tenant == "tenant-mine") == 2
    assert not in_bytes(path, "tenant-mine")
    assert not in_bytes(path, "mine-")
    assert len(names(path)) == 2
    for one in yours:
        (found,) = folder.find(anybody, one.summary.request_id)
        assert_same(found, one)
    assert folder.erase(lambda one: one.tenant == "tenant-mine") == 0
    assert len(folder.newest(TraceQuery(9))) == 2


def in_bytes(path: Path, word: str) -> bool:
    """Whether a word stands in any column of any file, as it is or compressed away from sight."""
    found = False
    for file in path.glob("*"):
        found |= word.encode() in file.read_bytes()
        if file.suffix == ".parquet":
            found |= word in repr(pq.read_table(file).to_pylist())
            found |= word in repr(pq.read_metadata(file).to_dict())
    return found


@pytest.mark.parametrize("level", [TraceLevel.L0, TraceLevel.L1, TraceLevel.L2, TraceLevel.L3])
def test_texts_are_in_the_bytes_of_the_highest_level_alone(
    folder: TraceFolder, path: Path, level: TraceLevel
) -> None:
    write(folder, [trace("r", level=level)])
    assert in_bytes(path, CANARY) == (level is TraceLevel.L3)


def test_texts_are_let_go_in_time(tmp_path: Path) -> None:
    folder = TraceFolder(tmp_path, FolderLimits(text_hours=1))
    old, new = trace("old"), trace("new", later_s=1800, tokens=half_watched(3))
    write(folder, [old, trace("low", level=TraceLevel.L1), new])
    folder.sweep(CREATED_S + 3599)
    assert in_bytes(tmp_path, CANARY)
    folder.sweep(CREATED_S + 3600)
    (kept,) = folder.find(anybody, "old")
    assert kept.summary == replace(old.summary, level=TraceLevel.L2)
    assert kept.texts is None
    assert kept.ids == old.ids
    assert_same(folder.find(anybody, "new")[0], new)
    folder.sweep(CREATED_S + 3600 + 1800)
    assert not in_bytes(tmp_path, CANARY)
    assert len(folder.newest(TraceQuery(9))) == 3
    folder.close()


def test_what_is_too_old_or_too_much_goes(tmp_path: Path) -> None:
    folder = TraceFolder(tmp_path, FolderLimits(days=2))
    for day in range(4):
        write(folder, [trace(f"r-{day}", later_s=day * DAY_S)])
    # The first day ended two days ago; of the second something is younger.
    folder.sweep(CREATED_S - 5.25 + 3 * DAY_S)
    assert [name[:10] for name in names(tmp_path)] == ["2026-11-23", "2026-11-24", "2026-11-25"]
    folder.limits = FolderLimits(days=100, max_bytes=folder.num_bytes - 1)
    folder.sweep(CREATED_S)
    assert [name[:10] for name in names(tmp_path)] == ["2026-11-24", "2026-11-25"]
    folder.close()


def test_one_server_has_a_folder(folder: TraceFolder, path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="another server keeps traces"):
        TraceFolder(path)
    folder.close()
    TraceFolder(path).close()


@pytest.mark.parametrize("data", [b"no parquet", None])
def test_files_that_are_not_ours_are_named(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "2026-11-22.000000-000000.parquet"
    if data is None:
        pq.write_table(pa.table({"a": [1]}), file)
    else:
        file.write_bytes(data)
    with pytest.raises(EnvironmentFault, match="Move it"):
        TraceFolder(tmp_path)
    file.unlink()
    # The folder was let go.
    TraceFolder(tmp_path).close()


def test_a_write_that_fails_leaves_nothing(
    folder: TraceFolder, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    write(folder, [trace("there"), trace("too")])
    with monkeypatch.context() as patched:
        patched.setattr(trace_folder.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write(folder, [trace("lost")])
        with pytest.raises(OSError, match="No space"):
            folder.erase(lambda one: one.request_id == "too")
    assert not list(path.glob("*.part"))
    assert len(names(path)) == 1
    assert folder.find(anybody, "lost") == []
    assert len(folder.find(anybody, "too")) == 1
