"""Lay traces out as a Parquet table, and read them back. Knows nothing of files' names or of who reads.

One row a token and group of heads, behind one row an answer, whose `token` is null; `num_rows` says how many
rows of tokens are its own, in the order of the answers. What a level must not hold is null in its rows.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from cynosure.core.errors import MissingPackage
from cynosure.insight import Coverage, HeadGroup
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import (
    ALL,
    NUM_OTHERS,
    ExtraValue,
    Trace,
    TraceIds,
    TracePart,
    TracePlace,
    TraceShares,
    TraceSummary,
    TraceTexts,
)

#: Of the layout; a file of another is refused.
VERSION = "1"
_US = 1_000_000

#: How columns are written. Of numbers that hardly ever come twice a dictionary would be one more copy.
_SPLIT = ("masses.list.element", "sink", "template", "generated", "entropy_bits", "logprob")
_DELTA = ("created", "index", "token", "token_id", "start")
ENCODINGS: Mapping[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["request_id", "tenant", "model", "group", "route", "finish", "coverage", "heads"],
    "column_encoding": dict.fromkeys(_SPLIT, "BYTE_STREAM_SPLIT")
    | dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
}


def arrow(name: str = "pyarrow") -> Any:  # noqa: ANN401 - an optional package, without types
    """A module of Arrow's.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise MissingPackage(
            "traces are kept in Parquet files, which pyarrow writes, and it is not installed. Install "
            "cynosure[traces], or leave --traces out."
        ) from fault


@lru_cache(maxsize=1)
def schema() -> Any:  # noqa: ANN401
    """The columns: first what both kinds of rows have, then what an answer has, then what a token has."""
    pa = arrow()
    return pa.schema(
        [
            ("request_id", pa.string()),
            ("index", pa.int32()),
            ("tenant", pa.string()),
            ("model", pa.string()),
            ("created", pa.timestamp("us", tz="UTC")),
            ("level", pa.int8()),
            ("token", pa.int32()),
            ("group", pa.string()),
            ("masses", pa.list_(pa.float32())),
            ("sink", pa.float32()),
            ("template", pa.float32()),
            ("generated", pa.float32()),
            ("entropy_bits", pa.float32()),
            # Of an answer.
            ("num_rows", pa.int64()),
            ("route", pa.string()),
            ("finish", pa.string()),
            ("num_prompt_tokens", pa.int64()),
            ("num_tokens", pa.int64()),
            ("num_watched", pa.int64()),
            ("roles", pa.string()),
            ("lookback", pa.float64()),
            ("coverage", pa.string()),
            ("parts", pa.string()),
            ("heads", pa.string()),
            ("places", pa.string()),
            ("prompt_ids", pa.list_(pa.int32())),
            ("names", pa.string()),
            ("extra", pa.string()),
            # Of a token.
            ("token_id", pa.int32()),
            ("start", pa.int64()),
            ("logprob", pa.float32()),
            ("text", pa.string()),
        ],
        {"cynosure.traces": VERSION},
    )


def answers_of(traces: Sequence[Trace]) -> Any:  # noqa: ANN401
    """A row for each answer."""
    rows = [_answer_row(trace) for trace in traces]
    return arrow().Table.from_pylist(rows, schema=schema())


def tokens_of(traces: Sequence[Trace]) -> Any:  # noqa: ANN401
    """The rows of their tokens, one trace after another."""
    pa = arrow()
    tables = [table for trace in traces for table in _token_tables(trace)]
    return pa.concat_tables(tables) if tables else schema().empty_table()


def traces_in(answers: Any, tokens: Any) -> list[Trace]:  # noqa: ANN401
    """Read answers and their tokens, which are all that `tokens` holds."""
    traces, first = [], 0
    for row in answers.to_pylist():
        traces.append(_trace(row, tokens.slice(first, row["num_rows"])))
        first += row["num_rows"]
    return traces


def summaries_in(answers: Any) -> list[TraceSummary]:  # noqa: ANN401
    """Read answers alone."""
    return [_summary(row) for row in answers.to_pylist()]


def _answer_row(trace: Trace) -> dict[str, object]:
    summary, shares, ids, texts = trace.summary, trace.shares, trace.ids, trace.texts
    row: dict[str, object] = {
        "request_id": summary.request_id,
        "index": summary.index,
        "tenant": summary.tenant,
        "model": summary.model,
        "created": round(summary.created_s * _US),
        "level": int(summary.level),
        "group": ALL,
        "entropy_bits": summary.entropy_bits,
        "num_rows": _num_rows(trace),
        "route": summary.route,
        "finish": summary.finish,
        "num_prompt_tokens": summary.num_prompt_tokens,
        "num_tokens": summary.num_tokens,
        "num_watched": summary.num_watched,
        "roles": _json(summary.mass_by_role),
        "lookback": summary.lookback,
        "coverage": _json(asdict(summary.coverage)),
        "extra": _json({name: [int(one.level), one.value] for name, one in trace.extra.items()}),
    }
    if shares is not None:
        if shares.watched:
            *masses, sink, template, generated = shares.masses[0].mean(0).tolist()
            row |= {"masses": masses, "sink": sink, "template": template, "generated": generated}
        row["parts"] = _json([[part.id, part.role, part.num_tokens] for part in shares.parts])
        groups = [[group.name, group.weights] for group in shares.groups]
        row["heads"] = _json({"heads": shares.heads, "num_heads": shares.num_heads, "groups": groups})
    if ids is not None:
        row["places"] = _json([list(vars(place).values()) for place in ids.places])
        row["prompt_ids"] = ids.prompt_ids
    if texts is not None:
        row["names"] = _json([texts.names, texts.parts])
    return row


def _num_rows(trace: Trace) -> int:
    if trace.shares is None:
        return 0
    num_watched = len(trace.shares.watched)
    # The group of all heads has a row for each token of which anything is known.
    num_known = num_watched if trace.ids is None else len(trace.ids.token_ids)
    return num_known + num_watched * len(trace.shares.groups)


def _token_tables(trace: Trace) -> Iterator[Any]:
    """The rows of each group, that of all heads first; it alone has tokens' ids and texts."""
    shares, ids, texts = trace.shares, trace.ids, trace.texts
    if shares is None or not _num_rows(trace):
        return
    pa = arrow()
    watched = np.array(shares.watched, np.int32)
    known = watched if ids is None else np.arange(len(ids.token_ids), dtype=np.int32)
    place = np.full(len(known), -1)
    place[np.searchsorted(known, watched)] = np.arange(len(watched))
    more: dict[str, Any] = {}
    if ids is not None:
        more = {
            "token_id": pa.array(ids.token_ids, pa.int32()),
            "start": pa.array(ids.starts, pa.int64()),
            "logprob": pa.array(ids.logprobs, pa.float32()),
        }
    if texts is not None:
        more["text"] = pa.array(texts.tokens, pa.string())
    yield _rows(trace, ALL, known, _columns(shares, 0, place) | more)
    for number, group in enumerate(shares.groups, start=1):
        yield _rows(trace, group.name, watched, _columns(shares, number, np.arange(len(watched))))


def _columns(shares: TraceShares, group: int, place: np.ndarray) -> dict[str, Any]:
    """Masses by row; null where `place` has none."""
    pa = arrow()
    is_null = place < 0
    if not shares.watched:
        return {}
    rows = shares.masses[group][place]
    num_parts = rows.shape[1] - NUM_OTHERS
    offsets = np.concatenate([[0], np.cumsum(np.where(is_null, 0, num_parts))]).astype(np.int32)
    flat = pa.array(rows[~is_null, :num_parts].reshape(-1), pa.float32())
    columns = {
        "masses": pa.ListArray.from_arrays(offsets, flat, mask=pa.array(is_null)),
        "sink": pa.array(rows[:, num_parts], mask=is_null),
        "template": pa.array(rows[:, num_parts + 1], mask=is_null),
        "generated": pa.array(rows[:, num_parts + 2], mask=is_null),
    }
    if group == 0:
        columns["entropy_bits"] = pa.array(shares.entropy_bits[place], mask=is_null)
    return columns


def _rows(trace: Trace, group: str, tokens: np.ndarray, columns: Mapping[str, Any]) -> Any:  # noqa: ANN401
    pa, summary = arrow(), trace.summary
    same = {
        "request_id": summary.request_id,
        "index": summary.index,
        "tenant": summary.tenant,
        "model": summary.model,
        "created": round(summary.created_s * _US),
        "level": int(summary.level),
        "group": group,
    }
    arrays = []
    for column in schema():
        if column.name == "token":
            arrays.append(pa.array(tokens, pa.int32()))
        elif column.name in columns:
            arrays.append(columns[column.name])
        elif column.name in same:
            arrays.append(pa.repeat(pa.scalar(same[column.name], column.type), len(tokens)))
        else:
            arrays.append(pa.nulls(len(tokens), column.type))
    return pa.Table.from_arrays(arrays, schema=schema())


def _trace(row: Mapping[str, Any], tokens: Any) -> Trace:  # noqa: ANN401
    extra = {
        name: ExtraValue(TraceLevel(level), value)
        for name, (level, value) in json.loads(row["extra"]).items()
    }
    if row["parts"] is None:
        return Trace(_summary(row), extra=extra)
    heads = json.loads(row["heads"])
    parts = tuple(TracePart(*part) for part in json.loads(row["parts"]))
    groups = tuple(HeadGroup(name, tuple(weights)) for name, weights in heads["groups"])
    num_watched = row["num_watched"]
    num_known = tokens.num_rows - num_watched * len(groups)
    every = tokens.slice(0, num_known)
    is_watched = every["sink"].is_valid().to_numpy()
    shares = TraceShares(
        parts=parts,
        heads=tuple((layer, head) for layer, head in heads["heads"]),
        num_heads=tuple(heads["num_heads"]),
        groups=groups,
        watched=tuple(every["token"].to_numpy()[is_watched].tolist()),
        entropy_bits=every["entropy_bits"].drop_null().to_numpy().astype(np.float32),
        masses=_masses(tokens, num_known, (1 + len(groups), num_watched, len(parts))),
    )
    return Trace(_summary(row), shares, _ids(row, every), _texts(row, every), extra)


def _masses(tokens: Any, num_known: int, shape: tuple[int, int, int]) -> np.ndarray:  # noqa: ANN401
    num_groups, num_watched, num_parts = shape
    masses = np.zeros((num_groups, num_watched, num_parts + NUM_OTHERS), np.float32)
    first, length = 0, num_known
    for group in range(num_groups):
        rows = tokens.slice(first, length)
        flat = rows["masses"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        masses[group, :, :num_parts] = flat.reshape(num_watched, num_parts)
        for place, name in enumerate(("sink", "template", "generated"), start=num_parts):
            masses[group, :, place] = rows[name].drop_null().to_numpy()
        first, length = first + length, num_watched
    return masses


def _summary(row: Mapping[str, Any]) -> TraceSummary:
    return TraceSummary(
        request_id=row["request_id"],
        index=row["index"],
        tenant=row["tenant"],
        model=row["model"],
        route=row["route"],
        created_s=row["created"].timestamp(),
        finish=row["finish"],
        level=TraceLevel(row["level"]),
        num_prompt_tokens=row["num_prompt_tokens"],
        num_tokens=row["num_tokens"],
        num_watched=row["num_watched"],
        coverage=Coverage(**json.loads(row["coverage"])),
        mass_by_role=json.loads(row["roles"]),
        entropy_bits=row["entropy_bits"],
        lookback=row["lookback"],
    )


def _ids(row: Mapping[str, Any], every: Any) -> TraceIds | None:  # noqa: ANN401
    if row["places"] is None:
        return None
    return TraceIds(
        places=tuple(TracePlace(*place) for place in json.loads(row["places"])),
        prompt_ids=tuple(row["prompt_ids"]),
        token_ids=tuple(every["token_id"].to_pylist()),
        starts=tuple(every["start"].to_pylist()),
        logprobs=tuple(every["logprob"].to_pylist()),
    )


def _texts(row: Mapping[str, Any], every: Any) -> TraceTexts | None:  # noqa: ANN401
    if row["names"] is None:
        return None
    names, parts = json.loads(row["names"])
    return TraceTexts(tuple(names), tuple(parts), tuple(every["text"].to_pylist()))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
