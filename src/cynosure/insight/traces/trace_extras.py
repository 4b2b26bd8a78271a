"""Say what else is kept with a trace: risk, citations, focus. Knows nothing of files.

Parts are named by their place among the caller's, so that no word of his is kept below the level of texts.
"""

from __future__ import annotations

from cynosure.insight.citing.citations import citations_of
from cynosure.insight.judging.focus import focus_of
from cynosure.insight.judging.risk import largest, risks_of
from cynosure.insight.report import AttentionReport
from cynosure.insight.sentences import sentence_spans
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import TraceExtra

_DIGITS = 6


def trace_extras() -> tuple[TraceExtra, ...]:
    """What is found of every answer.

    - `risk`, `focus`: a number; the largest risk that is known.
    - `sentences`: `{start, end, risk, reason}`, in code points of the answer; risk and reason may be null.
    - `citations`: `{start, end, segment, score}`: a sentence, the place of what it cites, and how likely.
    """
    return (
        TraceExtra("risk", TraceLevel.L0, _risk),
        TraceExtra("focus", TraceLevel.L0, _focus),
        TraceExtra("sentences", TraceLevel.L2, _sentences),
        TraceExtra("citations", TraceLevel.L2, _citations),
    )


def _risk(report: AttentionReport) -> float | None:
    known = largest(risks_of(report))
    return None if known is None else round(known, _DIGITS)


def _focus(report: AttentionReport) -> float | None:
    focus = focus_of(report)
    return None if focus is None else round(focus.value, _DIGITS)


def _sentences(report: AttentionReport) -> list[dict[str, object]] | None:
    risks = {(one.start, one.end): one for one in risks_of(report)}
    if not risks and not citations_of(report):
        return None
    told = []
    for start, end in sentence_spans(report.text):
        one = risks.get((start, end))
        risk = None if one is None or one.risk is None else round(one.risk, _DIGITS)
        told.append({"start": start, "end": end, "risk": risk, "reason": None if one is None else one.reason})
    return told


def _citations(report: AttentionReport) -> list[dict[str, object]] | None:
    callers = [place for place, part in enumerate(report.reading.segments.parts) if part.is_callers]
    told = [
        {
            "start": one.start,
            "end": one.end,
            "segment": callers.index(one.part),
            "score": round(one.score, _DIGITS),
        }
        for one in citations_of(report)
    ]
    return told or None
