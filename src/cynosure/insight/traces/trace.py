"""Keep of a report what a privacy level lets be kept. Knows nothing of files or HTTP.

Each level adds a value of its own type, so that what a lower one must not hold has no place in it:
`TraceSummary` (L0), `TraceShares` (L1), `TraceIds` (L2), `TraceTexts` (L3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32

from cynosure.insight.head_choice import Coverage, HeadGroup, coverage_of
from cynosure.insight.prompt_segments import SINK, TEMPLATE, PromptPart, PromptSegments
from cynosure.insight.report import AttentionReport, ReadToken, lookback
from cynosure.insight.trace_level import TraceLevel

#: The group that every trace has: the mean of the watched heads.
ALL = "all"
#: What stands behind the caller's parts in every row of masses: sink, template, generated.
NUM_OTHERS = 3


@dataclass(frozen=True)
class TraceSummary:
    """L0: one answer in numbers. `tenant` is the server's digest; a client may have chosen `request_id`.

    Where nothing was watched `mass_by_role` is empty, and `entropy_bits` and `lookback` are None.
    """

    request_id: str
    index: int
    tenant: str
    model: str
    route: str
    created_s: float
    finish: str | None
    level: TraceLevel
    num_prompt_tokens: int
    num_tokens: int
    num_watched: int
    coverage: Coverage
    mass_by_role: Mapping[str, float]
    entropy_bits: float | None
    lookback: float | None


@dataclass(frozen=True)
class TracePart:
    """A part of the prompt under a name of ours: its role and a number, and a sentence's: `user:0#2`."""

    id: str
    role: str
    num_tokens: int


@dataclass(frozen=True, eq=False)
class TraceShares:
    """L1: what each watched token attended to.

    - `parts`: the caller's; `heads`, `num_heads`, `groups`: what was watched of which model.
    - `watched`: which tokens of the answer.
    - `masses`: of the group `all` first, then of `groups` in their order; in each row the parts, then the
      sink, the template, and what was generated before.
    """

    parts: tuple[TracePart, ...]
    heads: tuple[tuple[int, int], ...]
    num_heads: tuple[int, ...]
    groups: tuple[HeadGroup, ...]
    watched: tuple[int, ...]
    entropy_bits: Float32[np.ndarray, " watched"] = field(repr=False)
    masses: Float32[np.ndarray, "groups watched parts_and_others"] = field(repr=False)

    @property
    def group_names(self) -> tuple[str, ...]:
        """What `masses` holds, in its order."""
        return (ALL, *(group.name for group in self.groups))


@dataclass(frozen=True)
class TracePlace:
    """Where a part stands in the request, in numbers; None for what stands in no message or is no text."""

    message: int | None
    part: int | None
    start: int | None
    end: int | None
    first_token: int | None


@dataclass(frozen=True)
class TraceIds:
    """L2: where the parts stand, and the tokens; of the answer, a number for each."""

    places: tuple[TracePlace, ...]
    prompt_ids: tuple[int, ...] = field(repr=False)
    token_ids: tuple[int, ...] = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)
    logprobs: tuple[float | None, ...] = field(repr=False)


@dataclass(frozen=True)
class TraceTexts:
    """L3: what the caller calls each part, the stretch of his text that it is, and what each token added."""

    names: tuple[str, ...] = field(repr=False)
    parts: tuple[str | None, ...] = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class TraceExtra:
    """What else is found of a report: plain JSON, or None; and the least level that may hold it.

    A value below L3 names parts by their place among the caller's, never by what he calls them.
    """

    name: str
    level: TraceLevel
    of: Callable[[AttentionReport], object]


@dataclass(frozen=True)
class ExtraValue:
    """What an extra found."""

    level: TraceLevel
    value: object = field(repr=False)


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of one answer; what its level must not hold is None."""

    summary: TraceSummary
    shares: TraceShares | None = None
    ids: TraceIds | None = None
    texts: TraceTexts | None = None
    extra: Mapping[str, ExtraValue] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        arrays = 0 if self.shares is None else self.shares.masses.nbytes + 64 * len(self.shares.watched)
        ids = 0 if self.ids is None else 32 * (len(self.ids.prompt_ids) + 4 * len(self.ids.token_ids))
        texts = 0
        if self.texts is not None:
            texts = sum(
                len(text) + 64 for text in (*self.texts.parts, *self.texts.tokens) if text is not None
            )
        return 2048 + arrays + ids + texts


def trace_of(report: AttentionReport, level: TraceLevel, extras: Sequence[TraceExtra] = ()) -> Trace:
    """Keep what a level may hold.

    Args:
        report: What was put down of an answer.
        level: From `L0` on.
        extras: What else to find; of names that come twice, the last.
    """
    assert level is not TraceLevel.OFF, "nothing is kept of it"
    segments = report.reading.segments
    parts = [(place, part) for place, part in enumerate(segments.parts) if part.is_callers]
    callers = [part for _, part in parts]
    found = ((extra, extra.of(report)) for extra in extras if extra.level <= level)
    return Trace(
        _summary(report, level),
        _shares(report, callers) if level >= TraceLevel.L1 else None,
        _ids(report, parts) if level >= TraceLevel.L2 else None,
        _texts(report, callers) if level >= TraceLevel.L3 else None,
        {extra.name: ExtraValue(extra.level, value) for extra, value in found if value is not None},
    )


def lowered(trace: Trace, level: TraceLevel) -> Trace:
    """The same trace as a lower level would have kept it; of its own level or a higher one, as it is."""
    assert level is not TraceLevel.OFF, "nothing is left of it"
    if level >= trace.summary.level:
        return trace
    return Trace(
        replace(trace.summary, level=level),
        trace.shares if level >= TraceLevel.L1 else None,
        trace.ids if level >= TraceLevel.L2 else None,
        None,
        {name: extra for name, extra in trace.extra.items() if extra.level <= level},
    )


def _summary(report: AttentionReport, level: TraceLevel) -> TraceSummary:
    reading, mean = report.reading, report.mean
    num_watched = sum(token.shares is not None for token in report.tokens)
    return TraceSummary(
        request_id=report.request_id,
        index=report.index,
        tenant=report.tenant,
        model=report.model,
        route=report.route,
        created_s=round(report.created_s, 6),
        finish=report.finish,
        level=level,
        num_prompt_tokens=len(report.prompt_ids),
        num_tokens=len(report.tokens),
        num_watched=num_watched,
        coverage=coverage_of(reading.choice, reading.num_heads, num_watched, len(report.tokens)),
        mass_by_role=report.mass_by_role,
        entropy_bits=None if mean is None else _single(mean.entropy_bits),
        lookback=None if mean is None else lookback(mean),
    )


def _shares(report: AttentionReport, callers: Sequence[PromptPart]) -> TraceShares:
    reading = report.reading
    watched = [(index, token) for index, token in enumerate(report.tokens) if token.shares is not None]
    tokens = [token for _, token in watched]
    names = generic_ids(callers)
    counts = [
        count
        for part, count in zip(reading.segments.parts, reading.segments.num_tokens, strict=True)
        if part.is_callers
    ]
    return TraceShares(
        parts=tuple(
            TracePart(name, part.role, count)
            for name, part, count in zip(names, callers, counts, strict=True)
        ),
        heads=reading.choice.heads,
        num_heads=reading.num_heads,
        groups=reading.choice.groups,
        watched=tuple(index for index, _ in watched),
        entropy_bits=np.array([token.shares.entropy_bits for token in tokens if token.shares], np.float32),
        masses=_masses(reading.segments, tokens, len(callers), len(reading.choice.groups)),
    )


def _masses(
    segments: PromptSegments, tokens: Sequence[ReadToken], num_parts: int, num_groups: int
) -> Float32[np.ndarray, "groups watched parts_and_others"]:
    masses = np.zeros((1 + num_groups, len(tokens), num_parts + NUM_OTHERS), np.float32)
    if not tokens:
        return masses
    rows = [
        (*shares.masses, shares.sink_mass, shares.template_mass, shares.generated_mass)
        for token in tokens
        if (shares := token.shares) is not None
    ]
    masses[0] = np.array(rows, np.float32)
    if num_groups:
        # An engine counts all parts, sink and template among them, and last what was generated.
        roles = [part.role for part in segments.parts]
        order = [place for place, part in enumerate(segments.parts) if part.is_callers]
        order += [roles.index(SINK), roles.index(TEMPLATE), len(roles)]
        folds = np.array([token.folds for token in tokens], np.float32)
        masses[1:] = folds[:, :, order].swapaxes(0, 1)
    return masses


def _ids(report: AttentionReport, parts: Sequence[tuple[int, PromptPart]]) -> TraceIds:
    first: dict[int, int] = {}
    for owner, start, _ in report.reading.segments.runs:
        first.setdefault(owner, start)
    return TraceIds(
        places=tuple(
            TracePlace(part.message, part.part, part.start, part.end, first.get(place))
            for place, part in parts
        ),
        prompt_ids=report.prompt_ids,
        token_ids=tuple(token.token_id for token in report.tokens),
        starts=tuple(token.start for token in report.tokens),
        logprobs=tuple(None if token.logprob is None else _single(token.logprob) for token in report.tokens),
    )


def _single(number: float) -> float:
    """As it is kept in files, so that nobody sees whether it was there yet."""
    return float(np.float32(number))


def _texts(report: AttentionReport, callers: Sequence[PromptPart]) -> TraceTexts:
    return TraceTexts(
        names=tuple(part.id for part in callers),
        parts=tuple(None if part.text is None else part.text[part.start : part.end] for part in callers),
        tokens=tuple(token.text for token in report.tokens),
    )


def generic_ids(parts: Sequence[PromptPart]) -> list[str]:
    """Names of ours for a caller's parts, in their order: what he calls them may say something."""
    numbers: dict[str, str] = {}
    counts: dict[str, int] = {}
    names = []
    for part in parts:
        # No name of a caller holds `#`, which stands before the number of a sentence.
        whole, mark, sentence = part.id.partition("#")
        if whole not in numbers:
            number = counts[part.role] = counts.get(part.role, -1) + 1
            numbers[whole] = f"{part.role}:{number}"
        names.append(f"{numbers[whole]}{mark}{sentence}")
    return names
