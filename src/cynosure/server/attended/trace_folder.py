"""Keep traces in a folder of Parquet files, a day's together. Knows nothing of requests or of who reads.

A file is written aside and renamed, so that it is there whole or not at all. It is named by its day and by
which writes it holds, `2026-11-22.000008-000015.parquet`: small ones are joined, and one whose writes all
stand in another is a joined one that a crash left behind. Its first row group holds the answers.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cynosure.core.errors import EnvironmentFault
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import Trace, TraceSummary, lowered
from cynosure.server.attended.trace_query import TraceQuery
from cynosure.server.attended.trace_table import (
    ENCODINGS,
    VERSION,
    answers_of,
    arrow,
    schema,
    summaries_in,
    tokens_of,
    traces_in,
)

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.(\d{6,})-(\d{6,})\.parquet")
_LOCK = "traces.lock"
#: So many files of as many writes each are joined into one.
FANOUT = 8
#: A file of so many bytes is joined no more.
MAX_JOINED_BYTES = 16 * 2**20
#: Rows of a row group: what is read at least to read one answer.
GROUP_ROWS = 2**15
_DAY_S = 86_400.0

Match = Callable[[TraceSummary], bool]


@dataclass(frozen=True)
class FolderLimits:
    """How long traces are kept, how many bytes of them, and how long texts."""

    days: float = 30.0
    max_bytes: int = 2**30
    text_hours: float = 24.0


@dataclass(frozen=True, order=True)
class _File:
    """A file by its name: day, first write and last."""

    day: str
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.day}.{self.first:06d}-{self.last:06d}.parquet"

    @property
    def num_writes(self) -> int:
        return self.last - self.first + 1

    def holds(self, other: _File) -> bool:
        return self.day == other.day and self.first <= other.first <= other.last <= self.last


class TraceFolder:
    """The files of one server; not for several threads at once."""

    def __init__(self, path: Path, limits: FolderLimits | None = None) -> None:
        """Take the folder; what a crash left half done is put right.

        Raises:
            EnvironmentFault: it can't be written, is another server's, or holds files of another layout.
            MissingPackage: pyarrow is not installed.
        """
        self._arrow, self._parquet = arrow(), arrow("pyarrow.parquet")
        self._path = path
        self.limits = limits or FolderLimits()
        self._span_of: dict[_File, tuple[float, float]] = {}
        self._lock: int | None = None
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(path)
            self._files = self._found()
        except EnvironmentFault:
            self.close()
            raise
        except OSError as fault:
            self.close()
            raise EnvironmentFault(
                f"traces can't be kept in {path} ({fault.strerror or fault}). Make it writable, or name "
                "another folder (--traces FOLDER)."
            ) from fault

    @property
    def num_bytes(self) -> int:
        """What the files take on the disk."""
        return sum(self._file(file).stat().st_size for file in self._files)

    def close(self) -> None:
        """Let another server have the folder; a second time does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def write(self, day: str, traces: Sequence[Trace]) -> None:
        """Put traces of a day into a file.

        Raises:
            OSError: there is no room; nothing of them is written.
        """
        number = 1 + max((file.last for file in self._files if file.day == day), default=-1)
        file = _File(day, number, number)
        self._write(file, answers_of(traces), tokens_of(traces))
        self._files = sorted([*self._files, file])

    def find(self, match: Match, request_id: str) -> list[Trace]:
        """The answers of a request that match, in their order."""
        found: list[Trace] = []
        for file in reversed(self._files):
            whole = self._open(file)
            ids = whole.read_row_group(0, columns=["request_id"])["request_id"].to_pylist()
            if request_id in ids:
                found += self._traces(whole, lambda one: one.request_id == request_id and match(one))
        return sorted(found, key=lambda trace: trace.summary.index)

    def newest(self, query: TraceQuery) -> list[TraceSummary]:
        """The newest answers that a query admits, as many as it asks for."""
        found: list[TraceSummary] = []
        for file, (first_s, last_s) in sorted(self._spans().items(), key=lambda pair: -pair[1][1]):
            if last_s < query.since_s or first_s >= query.before_s:
                continue
            if len(found) == query.limit and found[-1].created_s > last_s:
                break
            found += filter(query.admits, summaries_in(self._open(file).read_row_group(0)))
            found = sorted(found, key=lambda one: -one.created_s)[: query.limit]
        return found

    def erase(self, match: Match) -> int:
        """Write every file anew that holds answers which match, without them; tell how many there were."""
        count = 0
        for file in list(self._files):
            whole = self._open(file)
            answers = whole.read_row_group(0)
            stays = np.array([not match(one) for one in summaries_in(answers)])
            if stays.all():
                continue
            count += int((~stays).sum())
            if not stays.any():
                self._remove(file)
                continue
            rows = np.repeat(stays, answers["num_rows"].to_numpy())
            tokens = _tokens(whole)
            self._write(file, answers.filter(self._mask(stays)), tokens.filter(self._mask(rows)))
        return count

    def sweep(self, now_s: float) -> None:
        """Let go of what is too old or too much, and of texts whose time is over."""
        oldest = now_s - self.limits.days * _DAY_S
        for file in list(self._files):
            if _start_of(file.day) + _DAY_S <= oldest:
                self._remove(file)
        while self._files and self.num_bytes > self.limits.max_bytes:
            self._remove(self._files[0])
        texts_until = now_s - self.limits.text_hours * 3600
        for file in list(self._files):
            self._without_texts(file, texts_until)

    def _without_texts(self, file: _File, until_s: float) -> None:
        whole = self._open(file)
        columns = whole.read_row_group(0, columns=["level", "created"])
        created = columns["created"].cast("int64").to_numpy() / 1e6
        is_over = (columns["level"].to_numpy() == int(TraceLevel.L3)) & (created <= until_s)
        if not is_over.any():
            return
        traces = traces_in(whole.read_row_group(0), _tokens(whole))
        left = [
            lowered(trace, TraceLevel.L2) if over else trace
            for trace, over in zip(traces, is_over, strict=True)
        ]
        self._write(file, answers_of(left), tokens_of(left))

    def _traces(self, whole: Any, match: Match) -> list[Trace]:  # noqa: ANN401 - Arrow has no types
        """Answers of a file that match; of its rows only groups are read that hold theirs."""
        answers = whole.read_row_group(0)
        ends = np.cumsum(answers["num_rows"].to_numpy())
        found: list[Trace] = []
        for place, summary in enumerate(summaries_in(answers)):
            if match(summary):
                first = 0 if place == 0 else int(ends[place - 1])
                rows = _tokens(whole, first, int(ends[place]))
                found += traces_in(answers.slice(place, 1), rows)
        return found

    def _spans(self) -> Mapping[_File, tuple[float, float]]:
        """When the first and the last answer of each file were begun."""
        for file in self._files:
            if file not in self._span_of:
                created = self._open(file).read_row_group(0, columns=["created"])["created"].cast("int64")
                times = created.to_numpy() / 1e6
                self._span_of[file] = float(times.min()), float(times.max())
        return {file: self._span_of[file] for file in self._files}

    def join(self, day: str) -> None:
        """Join the last files of a day while there are enough of one size.

        Raises:
            OSError: there is no room; they stay apart.
        """
        while True:
            own = [file for file in self._files if file.day == day][-FANOUT:]
            sizes = {file.num_writes for file in own}
            num_bytes = sum(self._file(file).stat().st_size for file in own)
            if len(own) < FANOUT or len(sizes) > 1 or num_bytes > MAX_JOINED_BYTES:
                return
            joined = _File(day, own[0].first, own[-1].last)
            opened = [self._open(file) for file in own]
            answers = self._arrow.concat_tables([one.read_row_group(0) for one in opened])
            self._write(joined, answers, self._arrow.concat_tables([_tokens(one) for one in opened]))
            for file in own:
                self._remove(file)
            self._files = sorted([*self._files, joined])

    def _write(self, file: _File, answers: Any, tokens: Any) -> None:  # noqa: ANN401
        path = self._file(file)
        scratch = path.with_suffix(".part")
        made = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(made, "wb") as stream:
                with self._parquet.ParquetWriter(stream, schema(), **ENCODINGS) as writer:
                    writer.write_table(answers, row_group_size=max(1, answers.num_rows))
                    if tokens.num_rows:
                        writer.write_table(tokens, row_group_size=GROUP_ROWS)
                stream.flush()
                os.fsync(stream.fileno())
            scratch.replace(path)
            self._span_of.pop(file, None)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        _sync_folder(self._path)

    def _remove(self, file: _File) -> None:
        self._file(file).unlink(missing_ok=True)
        self._files = [one for one in self._files if one != file]
        self._span_of.pop(file, None)

    def _open(self, file: _File) -> Any:  # noqa: ANN401
        return self._parquet.ParquetFile(self._file(file))

    def _file(self, file: _File) -> Path:
        return self._path / file.name

    def _mask(self, stays: np.ndarray) -> Any:  # noqa: ANN401
        return self._arrow.array(stays)

    def _found(self) -> list[_File]:
        """The files that are there; parts of writes, and what was joined, are removed."""
        for part in self._path.glob("*.part"):
            part.unlink()
        names = [_NAME.fullmatch(path.name) for path in self._path.iterdir()]
        found = sorted(_File(one[1], int(one[2]), int(one[3])) for one in names if one)
        kept = []
        for file in found:
            if any(other != file and other.holds(file) for other in found):
                self._file(file).unlink()
                continue
            self._check(file)
            kept.append(file)
        return kept

    def _check(self, file: _File) -> None:
        try:
            metadata: Mapping[bytes, bytes] = self._parquet.read_schema(self._file(file)).metadata or {}
        except (OSError, self._arrow.ArrowException) as fault:
            raise EnvironmentFault(
                f"{self._file(file)} can't be read as traces: {str(fault)[:200]}. Move it away."
            ) from fault
        version = metadata.get(b"cynosure.traces", b"none").decode()
        if version != VERSION:
            raise EnvironmentFault(
                f"{self._file(file)} holds traces of layout {version}; this server reads {VERSION}. Move it "
                "away, or name another folder (--traces FOLDER)."
            )


def _tokens(whole: Any, first: int = 0, end: int | None = None) -> Any:  # noqa: ANN401
    """Rows of tokens, from one to another; all without more said."""
    sizes = [whole.metadata.row_group(group).num_rows for group in range(1, whole.num_row_groups)]
    ends = np.cumsum(sizes, dtype=np.int64)
    end = int(ends[-1] if len(ends) else 0) if end is None else end
    if first >= end:
        return schema().empty_table()
    low = int(np.searchsorted(ends, first, side="right"))
    high = int(np.searchsorted(ends, end, side="left"))
    rows = whole.read_row_groups(range(low + 1, high + 2))
    return rows.slice(first - int(ends[low] - sizes[low]), end - first)


def by_day(traces: Iterable[Trace]) -> list[tuple[str, list[Trace]]]:
    """Traces by the day that they were begun on (UTC), in their order."""
    ordered = sorted(traces, key=lambda trace: trace.summary.created_s)
    days = groupby(ordered, key=lambda trace: _day_of(trace.summary.created_s))
    return [(day, list(group)) for day, group in days]


def _day_of(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).date().isoformat()


def _start_of(day: str) -> float:
    return (
        datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) - datetime.fromtimestamp(0, UTC)
    ) / timedelta(seconds=1)


def _locked(path: Path) -> int:
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(lock)
        raise EnvironmentFault(
            f"another server keeps traces in {path}; two would lose each other's. Name another folder "
            "(--traces FOLDER)."
        ) from fault
    return lock


def _sync_folder(path: Path) -> None:
    """Have a rename outlive a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
