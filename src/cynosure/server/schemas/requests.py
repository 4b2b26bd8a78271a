"""Shape `/v1/requests/{id}/explain`, our own. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

from cynosure.engine.report import RequestReport
from cynosure.server.guard_notes import GuardNotes, Noted
from cynosure.server.outcome import outcome_of
from cynosure.server.visit import Visit

#: Why no more pages were found, in words.
_PAGE_ENDS: Mapping[str, str] = {
    "prompt_end": "every full page before the last token was kept",
    "new_key": "nothing was kept for this API key, model and dtype",
    "new_tokens": "no earlier request of this API key had these tokens here",
    "evicted": "the next page was kept once, and gave way to others",
    "window_evicted": "of layers with a window, what the next token looks at gave way to others",
    "no_state": "of layers with a state, none is kept behind the pages that go on",
    "prompt_logprobs": "prompt_logprobs needs every token of the prompt computed",
    "reproducible": "a reproducible request shares no page",
    "off": "the prefix cache is switched off",
    "not_admitted": "it never took part in a step",
}

State = Literal["running", "finished", "refused", "failed", "cancelled"]


class Times(BaseModel):
    """Seconds since the request arrived; `constraint_s` is how long its constraint took to be ready."""

    total_s: float | None
    first_token_s: float | None
    constraint_s: float


class TokenNumbers(BaseModel):
    """Tokens that were read, those of them that were found and not computed, and those chosen."""

    prompt: int
    cached: int
    completion: int


class Pages(BaseModel):
    """The prefix cache: of the prompt's full pages, the first `found` were kept from earlier requests."""

    page_size: int
    sought: int
    found: int
    why_no_more: str
    explanation: str


class ConstraintNumbers(BaseModel):
    """Tokens that were chosen under a constraint, and those of them where it left one choice."""

    kind: str
    num_tokens: int
    num_forced: int


class SpeculationNumbers(BaseModel):
    """Tokens that were guessed ahead, and those of them that were right."""

    drafted: int
    accepted: int


class PageSelectionNumbers(BaseModel):
    """Steps that attended to selected pages, and those of them that were exact and told what pages recall.

    `recalled` is the share of the attention that the selected pages have, over all heads that selected, and
    `least_recalled` that of the worst head in the worst step; null where nothing was checked.
    """

    steps: int
    checks: int
    recalled: float | None
    least_recalled: float | None


class SequenceReport(BaseModel):
    """How one sequence went through the engine; seconds of one part after the other."""

    constraint_s: float
    queue_s: float
    prefill_s: float
    decode_s: float
    prefill_chunks: list[int]
    num_decode_steps: int
    pages: Pages
    num_preemptions: int
    speculation: SpeculationNumbers
    page_selection: PageSelectionNumbers | None
    constraint: ConstraintNumbers | None

    @classmethod
    def of(cls, report: RequestReport, kind: str) -> SequenceReport:
        """The same in JSON."""
        pages = Pages(
            page_size=report.page_size,
            sought=report.num_pages_sought,
            found=report.num_pages_found,
            why_no_more=report.page_end,
            explanation=_PAGE_ENDS.get(report.page_end, report.page_end),
        )
        constraint = ConstraintNumbers(
            kind=kind, num_tokens=report.num_constrained, num_forced=report.num_forced
        )
        return cls(
            constraint_s=round(report.constraint_s, 6),
            queue_s=round(report.queue_s, 6),
            prefill_s=round(report.prefill_s, 6),
            decode_s=round(report.decode_s, 6),
            prefill_chunks=list(report.chunks),
            num_decode_steps=report.num_decode_steps,
            pages=pages,
            num_preemptions=report.num_preemptions,
            speculation=SpeculationNumbers(drafted=report.num_drafted, accepted=report.num_accepted),
            page_selection=_page_selection(report),
            constraint=constraint if kind else None,
        )


def _page_selection(report: RequestReport) -> PageSelectionNumbers | None:
    if not report.num_page_choices:
        return None
    return PageSelectionNumbers(
        steps=report.num_page_choices,
        checks=report.num_page_checks,
        recalled=_rounded(report.recalled),
        least_recalled=_rounded(report.least_recalled),
    )


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


class GuardCount(BaseModel):
    """How often a kind was found, and what was done with it."""

    direction: str
    kind: str
    action: str
    count: int


class GuardFinding(BaseModel):
    """One finding: where it stood, in code points. What it was is not kept."""

    direction: str
    kind: str
    action: str
    place: str
    start: int
    end: int

    @classmethod
    def of(cls, noted: Noted) -> GuardFinding:
        """The same in JSON."""
        return cls(**vars(noted))


class GuardReport(BaseModel):
    """What the guard found: all of it counted, the first findings one by one."""

    counts: list[GuardCount]
    findings: list[GuardFinding]

    @classmethod
    def of(cls, notes: GuardNotes) -> GuardReport:
        """The same in JSON."""
        return cls(
            counts=[
                GuardCount(direction=direction, kind=kind, action=action, count=count)
                for (direction, kind, action), count in sorted(notes.counts.items())
            ],
            findings=[GuardFinding.of(noted) for noted in notes.first],
        )


class Explanation(BaseModel):
    """How a request went."""

    object: Literal["request.explanation"] = "request.explanation"
    id: str
    state: State
    status: int | None
    error: str | None
    model: str | None
    finish: str | None
    times: Times
    tokens: TokenNumbers
    sequences: list[SequenceReport]
    guard: GuardReport

    @classmethod
    def of(cls, visit: Visit) -> Explanation:
        """What is known of a request now."""
        first_s, ended_s = visit.first_token_s, visit.ended_s
        state: State = "running" if ended_s is None else outcome_of(visit, visit.status or 0).value
        return cls(
            id=visit.request_id,
            state=state,
            status=visit.status,
            error=visit.error or None,
            model=visit.model,
            finish=visit.finish,
            times=Times(
                total_s=None if ended_s is None else round(ended_s - visit.arrived_s, 6),
                first_token_s=None if first_s is None else round(first_s - visit.arrived_s, 6),
                constraint_s=round(visit.prepare_s, 6),
            ),
            tokens=TokenNumbers(
                prompt=visit.num_prompt_tokens, cached=visit.num_cached, completion=visit.num_tokens
            ),
            sequences=[SequenceReport.of(report, visit.constraint) for report in visit.reports],
            guard=GuardReport.of(visit.guard),
        )
