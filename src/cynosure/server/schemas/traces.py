"""Shape `/v1/traces`, our own: what answers attended to, kept for later. Computes nothing.

A trace holds what its privacy level lets it hold; what it does not hold is null, and never made up:

- `L0`: shares by role on average over the answer;
- `L1`: shares of each segment by token, for each group of heads, and which heads these are;
- `L2`: also where segments stand, as numbers, and the ids of tokens;
- `L3`: also texts, and the names that callers gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal, cast

import numpy as np
from pydantic import BaseModel, JsonValue

from cynosure.insight.traces.trace import (
    NUM_OTHERS,
    TraceIds,
    TracePlace,
    TraceShares,
    TraceSummary,
    TraceTexts,
)
from cynosure.insight.traces.trace import Trace as KeptTrace
from cynosure.server.schemas.attention import AttentionCoverage, SegmentSource

Level = Literal["L0", "L1", "L2", "L3"]
#: Digits behind the point: finer than the statistics are.
_DIGITS = 7


class TraceTokens(BaseModel):
    """How many tokens a prompt and its answer have, and of how many of the answer attention was watched."""

    prompt: int
    completion: int
    watched: int


class TraceRow(BaseModel):
    """One answer in a table; a request with several answers has several rows.

    - `id`: the request's; `index`: which of its answers, from 0; `created`: seconds since 1970.
    - `mass`: the average share of each role (`system`, `user`, `document`, ..., `template`, `sink`,
      `generated`); together 1, and empty where nothing was watched.
    - `lookback`: the prompt's share of what went to prompt and answer.
    - `is_own`: whether the API key that asks is the one that the answer was for; `tenant` is who that was.
    """

    id: str
    index: int
    model: str
    route: str
    created: float
    level: Level
    finish: str | None
    tokens: TraceTokens
    mass: dict[str, float]
    entropy_bits: float | None
    lookback: float | None
    is_own: bool
    tenant: str

    @classmethod
    def of(cls, one: TraceSummary, asker: str) -> TraceRow:
        """The same in JSON; `asker` is the tenant who is told."""
        return cls(
            id=one.request_id,
            index=one.index,
            model=one.model,
            route=one.route,
            created=one.created_s,
            level=cast(Level, one.level.word),
            finish=one.finish,
            tokens=TraceTokens(
                prompt=one.num_prompt_tokens, completion=one.num_tokens, watched=one.num_watched
            ),
            mass={role: round(mass, _DIGITS) for role, mass in one.mass_by_role.items()},
            entropy_bits=_rounded(one.entropy_bits),
            lookback=_rounded(one.lookback),
            is_own=one.tenant == asker,
            tenant=one.tenant,
        )


class TraceList(BaseModel):
    """Answers, the newest first; `has_more`: there are older ones (ask with `before` the last `created`)."""

    object: Literal["list"] = "list"
    data: list[TraceRow]
    has_more: bool


class TraceSegment(BaseModel):
    """A part of the prompt, and its average share.

    - `id`: its role, a number from 0, and `#` with the number of the sentence where it is one:
      `document:1#0`. To who may not read what it was, all parts are one, called `hidden`.
    - `source`, `start`, `end` (code points of the caller's string), `first_token`: from `L2` on; null for
      what is no text or stands in no message.
    - `name`, `text`: from `L3` on; `text` is the stretch `start:end`.
    """

    id: str
    role: str
    num_tokens: int
    mass: float | None
    source: SegmentSource | None = None
    start: int | None = None
    end: int | None = None
    first_token: int | None = None
    name: str | None = None
    text: str | None = None

    @classmethod
    def all_of(
        cls, shares: TraceShares, ids: TraceIds | None, texts: TraceTexts | None
    ) -> list[TraceSegment]:
        """Every part with all that is kept of it."""
        means = shares.masses[0].mean(0).tolist() if shares.watched else [None] * len(shares.parts)
        segments = []
        for at, part in enumerate(shares.parts):
            segment = cls(id=part.id, role=part.role, num_tokens=part.num_tokens, mass=_rounded(means[at]))
            if ids is not None:
                segment.stand(ids.places[at])
            if texts is not None:
                segment.name, segment.text = texts.names[at], texts.parts[at]
            segments.append(segment)
        return segments

    def stand(self, place: TracePlace) -> None:
        """Say where it stands."""
        if place.message is not None:
            self.source = SegmentSource(message=place.message, part=place.part)
        self.start, self.end, self.first_token = place.start, place.end, place.first_token


class GroupShares(BaseModel):
    """What each watched token attended to under one group's weights, by column.

    `mass[segment][n]` is of the answer's token `watched[n]`, segments in their order; so are the others. Of
    the group `all` (the mean of the watched heads) a token's numbers are shares and sum to 1; those of others
    are under weights that may be negative.
    """

    mass: list[list[float]]
    sink_mass: list[float]
    template_mass: list[float]
    generated_mass: list[float]

    @classmethod
    def of(cls, rows: np.ndarray) -> GroupShares:
        """Of rows that have the parts, and then sink, template and what was generated."""
        *parts, sink, template, generated = np.round(rows.T.astype(np.float64), _DIGITS).tolist()
        return cls(mass=parts, sink_mass=sink, template_mass=template, generated_mass=generated)


class TraceGroup(BaseModel):
    """A group of heads, its weight of each watched head in the order of `heads`."""

    name: str
    weights: list[float]


class TraceHeads(BaseModel):
    """Which heads were watched, as `[layer, head]`, of how many that each layer has, and their groups.

    The group `all`, each head for the same, is not listed.
    """

    heads: list[tuple[int, int]]
    num_heads: list[int]
    groups: list[TraceGroup]

    @classmethod
    def of(cls, shares: TraceShares) -> TraceHeads:
        """The same in JSON."""
        groups = [TraceGroup(name=group.name, weights=list(group.weights)) for group in shares.groups]
        return cls(heads=list(shares.heads), num_heads=list(shares.num_heads), groups=groups)


class TraceAnswer(TraceRow):
    """One answer, with all that is kept of it.

    - `segments`, `heads`, `watched`, `groups`, `token_entropy_bits`: from `L1` on. `groups` always has `all`.
    - `token_ids`, `starts`, `logprobs`, `prompt_token_ids`: from `L2` on. The first three have a number for
      each token of the answer; a token's start is its place in the answer, in code points.
    - `texts`: from `L3` on: what each token added to the answer, which is all of them joined.
    - `extra`: what else was found of the answer, by name (`citations`, `risk`, ...).
    """

    coverage: AttentionCoverage
    segments: list[TraceSegment] | None
    heads: TraceHeads | None
    watched: list[int] | None
    groups: dict[str, GroupShares] | None
    token_entropy_bits: list[float] | None
    token_ids: list[int] | None
    starts: list[int] | None
    logprobs: list[float | None] | None
    prompt_token_ids: list[int] | None
    texts: list[str] | None
    extra: dict[str, JsonValue]

    @classmethod
    def of_trace(cls, trace: KeptTrace, asker: str) -> TraceAnswer:
        """All that is kept of an answer; `asker` is the tenant who is told."""
        shares, ids, texts = trace.shares, trace.ids, trace.texts
        return cls(
            **dict(TraceRow.of(trace.summary, asker)),
            coverage=AttentionCoverage(**asdict(trace.summary.coverage)),
            segments=None if shares is None else TraceSegment.all_of(shares, ids, texts),
            heads=None if shares is None else TraceHeads.of(shares),
            watched=None if shares is None else list(shares.watched),
            groups=None if shares is None else _groups(shares),
            token_entropy_bits=None if shares is None else np.round(shares.entropy_bits, 6).tolist(),
            token_ids=None if ids is None else list(ids.token_ids),
            starts=None if ids is None else list(ids.starts),
            logprobs=None if ids is None else list(ids.logprobs),
            prompt_token_ids=None if ids is None else list(ids.prompt_ids),
            texts=None if texts is None else list(texts.tokens),
            extra={name: cast(JsonValue, one.value) for name, one in trace.extra.items()},
        )


class Trace(BaseModel):
    """What the answers of a request attended to."""

    object: Literal["trace"] = "trace"
    id: str
    answers: list[TraceAnswer]

    @classmethod
    def of(cls, traces: Sequence[KeptTrace], asker: str) -> Trace:
        """All answers of a request; there is one at least."""
        answers = [TraceAnswer.of_trace(trace, asker) for trace in traces]
        return cls(id=answers[0].id, answers=answers)


class TracesDeleted(BaseModel):
    """Answers of which nothing is kept any more, in memory and in files."""

    object: Literal["trace.deleted"] = "trace.deleted"
    deleted: Literal[True] = True
    num_answers: int


def _groups(shares: TraceShares) -> dict[str, GroupShares]:
    assert shares.masses.shape[-1] == len(shares.parts) + NUM_OTHERS
    return {name: GroupShares.of(rows) for name, rows in zip(shares.group_names, shares.masses, strict=True)}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, _DIGITS)
