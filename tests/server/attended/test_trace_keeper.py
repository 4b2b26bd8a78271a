"""What was told is found at once, in memory and in files, by whoever may; bounds hold, and failures show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.insight import AttentionReport, ReportSink
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import TraceExtra
from cynosure.insight.traces.trace_view import HIDDEN
from cynosure.server.attended.trace_folder import FolderLimits, TraceFolder
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper, in_memory
from cynosure.server.attended.trace_query import TraceQuery
from tests.insight.trace_cases import CREATED_S, half_watched, report

L3 = KeeperSettings(level=TraceLevel.L3)
Make = Callable[..., TraceKeeper]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[TraceKeeper] = []

    def one(settings: KeeperSettings = L3, **options: object) -> TraceKeeper:
        options = {"clock": lambda: CREATED_S, **options}
        made.append(TraceKeeper(settings, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for keeper in made:
        keeper.close()


def unasked(name: str = "r-1", **changes: object) -> AttentionReport:
    told = report(name, **changes)
    return replace(told, reading=replace(told.reading, is_asked=False))


def lowered(name: str, trace: TraceLevel) -> AttentionReport:
    told = report(name)
    return replace(told, reading=replace(told.reading, trace=trace))


def listed(keeper: TraceKeeper, tenant: str | None = None) -> list[str]:
    return [one.request_id for one in keeper.newest(TraceQuery(99, tenant=tenant))]


def test_is_a_sink(make: Make) -> None:
    assert isinstance(make(), ReportSink)


def test_what_was_told_is_found_at_once(make: Make) -> None:
    keeper = make()
    for n in range(50):
        keeper.told(report(f"r-{n}", created_s=CREATED_S + n))
        (trace,) = keeper.find(f"r-{n}", "tenant-a")
        assert trace.texts is not None
    assert listed(keeper) == [f"r-{n}" for n in reversed(range(50))]
    assert keeper.counts.kept == 50


def test_telling_waits_for_nobody(make: Make) -> None:
    keeper = make()
    keeper.told(report("first"))
    with keeper._lock:
        begun = time.perf_counter()
        for n in range(100):
            keeper.told(report(f"r-{n}"))
        assert time.perf_counter() - begun < 1
    assert len(listed(keeper)) == 99


def test_in_memory_only_what_was_asked_for_is_kept(make: Make, tmp_path: Path) -> None:
    keeper, filed = make(), make(folder=TraceFolder(tmp_path))
    for one in (keeper, filed):
        one.told(unasked("unasked"))
        one.told(report("asked"))
    assert listed(keeper) == ["asked"]
    assert sorted(listed(filed)) == ["asked", "unasked"]
    assert (keeper.watches_all, filed.watches_all) == (False, True)


@pytest.mark.parametrize("level", list(TraceLevel))
def test_a_request_may_have_less_kept_and_never_more(make: Make, level: TraceLevel) -> None:
    keeper = make(KeeperSettings(level=TraceLevel.L1))
    keeper.told(lowered("r", level))
    found = keeper.find("r", "tenant-a")
    if level is TraceLevel.OFF:
        assert not found
    else:
        assert found[0].summary.level is min(level, TraceLevel.L1)


def test_texts_are_kept_in_memory_where_reads_are_audited() -> None:
    assert in_memory(is_audited=True).level is TraceLevel.L3
    assert in_memory(is_audited=False).level is TraceLevel.L2
    assert KeeperSettings().level is TraceLevel.L1


def test_another_tenant_finds_nothing_and_an_admin_no_text(make: Make, tmp_path: Path) -> None:
    for keeper in (make(), make(folder=TraceFolder(tmp_path))):
        keeper.told(report("r"))
        for _ in range(2):
            assert keeper.find("r", "tenant-b") == []
            assert keeper.find("unknown", "tenant-a", is_admin=True) == []
            assert listed(keeper, "tenant-b") == []
            (own,) = keeper.find("r", "tenant-a", is_admin=True)
            assert own.texts is not None
            (shown,) = keeper.find("r", "tenant-b", is_admin=True)
            assert shown.texts is shown.ids is None
            assert shown.shares is not None
            assert [part.id for part in shown.shares.parts] == [HIDDEN]
            keeper.flush()


def test_one_id_of_two_tenants_and_twice_of_one(make: Make) -> None:
    keeper = make()
    keeper.told(report("r", tenant="tenant-b", created_s=CREATED_S + 9, finish="length"))
    keeper.told(report("r", finish="stop"))
    keeper.told(report("r", created_s=CREATED_S + 1, finish="length"))
    keeper.told(report("r", created_s=CREATED_S + 1, index=1, finish="stop"))
    assert [one.summary.finish for one in keeper.find("r", "tenant-a")] == ["length", "stop"]
    (shown,) = keeper.find("r", "tenant-c", is_admin=True)
    assert shown.summary.tenant == "tenant-b"
    assert keeper.erase("tenant-a", "r") == 3
    assert len(keeper.find("r", "tenant-b")) == 1


def test_the_oldest_give_way(make: Make) -> None:
    keeper = make(KeeperSettings(max_kept=3))
    for n in range(5):
        keeper.told(report(f"r-{n}", created_s=CREATED_S + n))
    assert listed(keeper) == ["r-4", "r-3", "r-2"]
    one = keeper.find("r-4", "tenant-a")[0].num_bytes
    small = make(KeeperSettings(max_bytes=2 * one))
    for n in range(5):
        small.told(report(f"r-{n}", created_s=CREATED_S + n))
    assert listed(small) == ["r-4", "r-3"]


def test_what_nobody_could_look_at_is_counted(make: Make) -> None:
    keeper = make(KeeperSettings(max_waiting=2))
    with keeper._lock:
        for n in range(5):
            keeper.told(report(f"r-{n}"))
    assert len(listed(keeper)) + keeper.counts.dropped == 5
    assert keeper.counts.dropped >= 2


def test_a_failure_is_counted_and_says_no_text(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def fails(one: AttentionReport) -> object:
        raise ValueError(one.text)

    keeper = make(extras=(TraceExtra("risk", TraceLevel.L1, fails),))
    keeper.told(report("r"))
    keeper.told(lowered("low", TraceLevel.L0))
    assert listed(keeper) == ["low"]
    assert keeper.counts.failed == 1
    assert "ValueError" in caplog.text
    assert report().text not in caplog.text


def test_extras_are_kept(make: Make, tmp_path: Path) -> None:
    extra = TraceExtra("risk", TraceLevel.L1, lambda one: [0.5, None])
    keeper = make(folder=TraceFolder(tmp_path), extras=(extra,))
    keeper.told(report("r"))
    for _ in range(2):
        assert keeper.find("r", "tenant-a")[0].extra["risk"].value == [0.5, None]
        keeper.flush()


def test_files_are_written_in_time_and_at_the_end(make: Make, tmp_path: Path) -> None:
    keeper = make(replace(L3, flush_s=0.05), folder=TraceFolder(tmp_path))
    keeper.told(report("r"))
    deadline = time.monotonic() + 10
    while not list(tmp_path.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert len(keeper.find("r", "tenant-a")) == 1
    keeper.close()
    last = make(L3, folder=TraceFolder(tmp_path))
    assert listed(last) == ["r"]
    last.told(report("late"))
    last.close()
    assert sorted(listed(make(L3, folder=TraceFolder(tmp_path)))) == ["late", "r"]


def test_much_is_written_at_once(make: Make, tmp_path: Path) -> None:
    keeper = make(replace(L3, max_kept=2, flush_s=1e6), folder=TraceFolder(tmp_path))
    for n in range(7):
        keeper.told(report(f"r-{n}"))
    assert len(listed(keeper)) == 7
    assert keeper.counts.dropped == 0
    assert list(tmp_path.glob("*.parquet"))


def test_a_full_disk_is_outlived(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = TraceFolder(tmp_path)
    keeper = make(replace(L3, max_kept=3, flush_s=1e6), folder=folder)

    def full(day: str, traces: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(folder, "write", full)
        for n in range(5):
            keeper.told(report(f"r-{n}", created_s=CREATED_S + n))
        assert listed(keeper) == ["r-4", "r-3", "r-2"]
        assert keeper.counts.dropped == 2
        assert "No space left" in caplog.text
    keeper.flush()
    assert listed(keeper) == ["r-4", "r-3", "r-2"]
    assert list(tmp_path.glob("*.parquet"))


def test_two_days_in_one_flush(make: Make, tmp_path: Path) -> None:
    keeper = make(L3, folder=TraceFolder(tmp_path))
    for days in (1, 0):
        keeper.told(report(f"r-{days}", created_s=CREATED_S + days * 86_400))
    keeper.flush()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert listed(keeper) == ["r-1", "r-0"]


def test_erasing_reaches_memory_files_and_what_waits(make: Make, tmp_path: Path) -> None:
    keeper = make(L3, folder=TraceFolder(tmp_path))
    keeper.told(report("filed"))
    keeper.flush()
    keeper.told(report("kept"))
    keeper.told(report("yours", tenant="tenant-b"))
    assert keeper.erase("tenant-a", "kept") == 1
    keeper.told(report("waits"))
    assert keeper.erase("tenant-a") == 2
    assert keeper.erase("tenant-a") == 0
    assert listed(keeper) == ["yours"]


def test_texts_and_traces_have_their_time(make: Make, tmp_path: Path) -> None:
    now = [CREATED_S]
    settings = replace(L3, text_hours=1)
    keepers = [
        make(settings, clock=lambda: now[0]),
        make(settings, clock=lambda: now[0], folder=TraceFolder(tmp_path, FolderLimits(2, 2**30, 1))),
    ]
    for keeper in keepers:
        keeper.told(report("r"))
        keeper.flush()
        now[0] = CREATED_S + 3599
        assert keeper.find("r", "tenant-a")[0].texts is not None
        # On time, whether or not the bytes are gone yet.
        now[0] = CREATED_S + 3600
        (trace,) = keeper.find("r", "tenant-a")
        assert (trace.texts, trace.summary.level) == (None, TraceLevel.L2)
        assert [one.level for one in keeper.newest(TraceQuery(9))] == [TraceLevel.L2]
        keeper._sweep(time.monotonic())
        now[0] = CREATED_S
        assert keeper.find("r", "tenant-a")[0].texts is None
    now[0] = CREATED_S + 2 * 86_400 + 1
    assert keepers[1].find("r", "tenant-a") == []
    assert listed(keepers[1]) == []


def test_readers_and_tellers_at_once(make: Make, tmp_path: Path) -> None:
    keeper = make(replace(L3, flush_s=0.0), folder=TraceFolder(tmp_path))
    missed: list[str] = []

    def read(name: str) -> None:
        if len(keeper.find(name, "tenant-a")) != 1:
            missed.append(name)

    threads = []
    for n in range(20):
        keeper.told(report(f"r-{n}", tokens=half_watched(3)))
        threads.append(threading.Thread(target=read, args=(f"r-{n}",)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert not missed
