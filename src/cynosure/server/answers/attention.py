"""Have attention watched, weighed and denied, and tell what was attended to. Knows no route, no tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cynosure.core.errors import InputError
from cynosure.engine.watch import DENIED, MAX_SEGMENTS, BiasRun, Watchable, WatchSpec
from cynosure.insight import (
    HeadChoice,
    PromptPart,
    PromptSegments,
    Reading,
    Tally,
    TokenShares,
    coverage_of,
    default_heads,
    shares_by_part,
)
from cynosure.insight.audit_summary import AuditSummary
from cynosure.insight.citing.citations import CitationRule
from cynosure.insight.profile import HeadProfile
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.answers.call_gate import CallGate, ungated
from cynosure.server.answers.continuation import Placed
from cynosure.server.answers.focus import FocusTeller, is_judged, rule_of
from cynosure.server.answers.said_tokens import SaidTokens
from cynosure.server.answers.sentence_citations import CitationTeller, citable, citation_rule
from cynosure.server.answers.sentence_risks import RiskTeller
from cynosure.server.guard_notes import GuardNotes
from cynosure.server.schemas.attention import (
    AttendedSegment,
    AttendedToken,
    Attention,
    AttentionCoverage,
    AttentionParam,
    CitationAudits,
    SegmentSource,
)
from cynosure.server.services import CompletionModel, Generation

DEFAULT_TOP_K = 5
#: With `topk`, a string of so many tokens is cut into its sentences, as long as there are not more parts.
MIN_SENTENCE_TOKENS, MAX_PARTS = 48, 256
#: Digits behind the point: finer than the statistics are.
_DIGITS = 7


@dataclass(frozen=True)
class Watched:
    """What is watched of one prompt."""

    param: AttentionParam
    segments: PromptSegments
    choice: HeadChoice
    watchable: Watchable
    profile: HeadProfile | None = None
    cited_by: CitationRule | None = None
    audits: AuditSummary | None = None

    @property
    def reading(self) -> Reading:
        """The same for whoever reads what the answer attended to."""
        return Reading(self.segments, self.choice, self.watchable.num_heads, profile=self.profile)


class AttentionPlan:
    """What a request asks of attention, for one of its prompts."""

    def __init__(
        self,
        model: CompletionModel,
        param: AttentionParam | None,
        segments: Callable[[], PromptSegments],
        calls: GuardNotes | None = None,
    ) -> None:
        """Find what is named; segments are made where something is asked.

        Args:
            model: The model.
            param: What the request asks.
            segments: Makes the parts of the prompt.
            calls: Where calls of functions are noted that are stopped; None where the answer may hold none.

        Raises:
            InputError: nothing of the prompt has a name that is given, or the model can't be watched.
        """
        self._bias: tuple[BiasRun, ...] = ()
        self._watched: Watched | None = None
        self._reading: Reading | None = None
        is_always = model.watching.is_always and model.watchable is not None
        rule = rule_of(model, param, calls is not None)
        self._gate: Callable[[], CallGate | None] = ungated
        if param is None and not is_always and rule is None:
            return
        found = segments()
        if param is not None:
            self._bias = _bias_of(param, found)
            is_told = param.level != "off" or param.citations is not None
            self._watched = _watched(model, param, found) if is_told else None
        is_judged_here = rule is not None and is_judged(rule, model, param, found)
        if self._watched is not None:
            self._reading = self._watched.reading
        elif is_judged_here or (is_always and len(found.parts) < MAX_SEGMENTS):
            assert model.watchable is not None
            choice = model.watching.choice or default_choice(model.watchable)
            self._reading = Reading(
                found, choice, model.watchable.num_heads, is_asked=False, profile=model.watching.profile
            )
        if self._reading is not None and param is not None and param.trace is not None:
            self._reading = replace(self._reading, trace=TraceLevel.of(param.trace))
        if is_judged_here:
            assert self._reading is not None
            assert rule is not None
            assert calls is not None
            self._gate = partial(CallGate, self._reading, rule, calls)

    def applied(self, asked: Generation) -> Generation:
        """Ask for it; what the server watches on its own account gives way where it would refuse."""
        asked = replace(asked, bias=self._bias)
        reading = self._reading
        gives_way = self._gate is ungated and reading is not None and not reading.is_asked
        if reading is None or (gives_way and asked.page_selection is not None):
            return asked
        every = 1 if self._watched is None else self._watched.param.every or 1
        folds = tuple(group.weights for group in reading.choice.groups)
        num_parts = len(reading.segments.parts)
        spec = WatchSpec(reading.choice.heads, reading.segments.runs, num_parts, every, folds)
        return replace(asked, watch=spec, reading=reading)

    def gate(self) -> CallGate | None:
        """What judges the calls of one answer, where they are; each needs its own."""
        return self._gate()

    def teller(self) -> AttentionTeller | None:
        """What tells of one answer; each needs its own."""
        return None if self._watched is None else AttentionTeller(self._watched)


class AttentionTeller:
    """Tells of one answer what its tokens attended to, as they come and on the whole."""

    def __init__(self, watched: Watched) -> None:
        """Start before the first token."""
        self._watched = watched
        self._parts = [part for part in watched.segments.parts if part.is_callers]
        self._tally = Tally(len(self._parts))
        self._num_tokens = 0
        self._said = SaidTokens()
        self._risk = RiskTeller(watched.reading)
        self._focus = FocusTeller(watched.reading)
        rule = watched.cited_by
        self._citations = None if rule is None else CitationTeller(watched.reading, rule)
        self._reads_sentences = self._risk.has_model or rule is not None

    def hear(self, text: str) -> None:
        """Take what is said next: what is told of sentences counts in its code points."""
        if self._reads_sentences:
            self._said.hear(text)

    def piece(self, placed: Iterable[Placed], *, is_last: bool = False) -> Attention | None:
        """Count tokens and tell of them; with the last, of all. None where there is nothing to tell."""
        placed = list(placed)
        if self._reads_sentences:
            self._said.add(placed)
        told = [token for one in placed if (token := self._token(one)) is not None]
        level = self._watched.param.level
        piece = self._whole() if is_last else Attention()
        if told and level != "off" and (level != "summary" or not is_last):
            piece.tokens = told
        if is_last and level != "off":
            self._risk.tell(piece, self._said)
            self._focus.tell(piece)
        if self._citations is not None:
            cited = self._citations.ended(self._said, is_last=is_last)
            if cited or is_last:
                piece.citations = cited
            if is_last and self._watched.audits is not None:
                piece.audits = CitationAudits(**vars(self._watched.audits))
        return piece if piece.model_fields_set else None

    def _token(self, placed: Placed) -> AttendedToken | None:
        if placed.token.token_id is None:
            return None
        index, attended = self._num_tokens, placed.token.attended
        self._num_tokens += 1
        if attended is None:
            return None
        shares = shares_by_part(self._watched.segments, attended.masses, attended.sink, attended.entropy_bits)
        self._tally.add(shares)
        if placed.token.text.strip():
            self._focus.add(shares, attended.folds)
        return AttendedToken(index=index, mass=self._masses(shares), **_others(shares))

    def _masses(self, shares: TokenShares) -> dict[str, float]:
        """Masses by part: all, or with `topk` the largest, largest first."""
        pairs = list(zip((part.id for part in self._parts), shares.masses, strict=True))
        if self._watched.param.level == "topk":
            pairs = sorted(pairs, key=lambda pair: -pair[1])[: self._watched.param.top_k or DEFAULT_TOP_K]
        return {name: round(mass, _DIGITS) for name, mass in pairs}

    def _whole(self) -> Attention:
        watched, mean = self._watched, self._tally.mean
        coverage = coverage_of(
            watched.choice, watched.watchable.num_heads, self._tally.num_tokens, self._num_tokens
        )
        told = AttentionCoverage(
            heads=coverage.heads, layers=coverage.layers, tokens=coverage.tokens, reason=coverage.reason
        )
        if mean is None or watched.param.level == "off":
            return Attention(level=watched.param.level, num_tokens=self._tally.num_tokens, coverage=told)
        told_of = zip(watched.segments.parts, watched.segments.num_tokens, strict=True)
        counts = [count for part, count in told_of if part.is_callers]
        segments = [
            _segment(part, count, mass)
            for part, count, mass in zip(self._parts, counts, mean.masses, strict=True)
        ]
        others = _others(mean)
        return Attention(
            level=watched.param.level,
            segments=segments,
            sink_mass=others["sink_mass"],
            template_mass=others["template_mass"],
            generated_mass=others["generated_mass"],
            entropy_bits=others["entropy_bits"],
            num_tokens=self._tally.num_tokens,
            coverage=told,
        )


def _others(shares: TokenShares) -> dict[str, float]:
    """Shares of what is no caller's, and the entropy."""
    named = {
        "sink_mass": shares.sink_mass,
        "template_mass": shares.template_mass,
        "generated_mass": shares.generated_mass,
        "entropy_bits": shares.entropy_bits,
    }
    return {name: round(value, _DIGITS) for name, value in named.items()}


def _segment(part: PromptPart, num_tokens: int, mass: float) -> AttendedSegment:
    source = None if part.message is None else SegmentSource(message=part.message, part=part.part)
    return AttendedSegment(
        id=part.id,
        role=part.role,
        source=source,
        start=part.start,
        end=part.end,
        num_tokens=num_tokens,
        mass=round(mass, _DIGITS),
    )


def _watched(model: CompletionModel, param: AttentionParam, segments: PromptSegments) -> Watched:
    if model.watchable is None:
        raise InputError(
            f"attention is asked for, and {model.name} can't be watched: it is no decoder, or it carries a "
            "state past its tokens. Leave it out."
        )
    choice = (
        model.watching.choice or default_choice(model.watchable)
        if param.chosen_heads is None
        else HeadChoice(param.chosen_heads, f"the request names {len(param.chosen_heads)} heads")
    )
    if param.level == "topk":
        segments = segments.by_sentence(MIN_SENTENCE_TOKENS, MAX_PARTS)
    if param.citations is not None:
        segments = citable(segments, MAX_PARTS)
    rule = citation_rule(model, param.citations)
    audits = None if model.watching.audits is None else model.watching.audits.summary(model.name)
    return Watched(param, segments, choice, model.watchable, model.watching.profile, rule, audits)


def default_choice(watchable: Watchable) -> HeadChoice:
    """The heads that are watched where neither a request nor a profile names any."""
    return default_heads(watchable.num_heads, watchable.full_layers)


def _bias_of(param: AttentionParam, segments: PromptSegments) -> tuple[BiasRun, ...]:
    """Runs of tokens and what is added to their scores, sorted."""
    named = [
        *((one.segment, one.add) for one in param.bias or ()),
        *((name, DENIED) for name in param.deny or ()),
    ]
    runs: list[BiasRun] = []
    for name, nats in named:
        tokens = segments.tokens_of(name)
        if not tokens:
            raise InputError(_unknown(name, segments.names))
        runs += [(start, end, nats) for start, end in tokens]
    return tuple(sorted(runs))


def _unknown(name: str, known: Sequence[str]) -> str:
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    what = "has no tokens in the prompt" if name in known else "is no segment of the prompt"
    return f"{name[:60]!r} {what}; its segments are {shown or 'none'}. Name one of them."
