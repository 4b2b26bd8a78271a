"""Make reports of answers with known texts and shares, for the page and the terminal. Asserts nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    TokenShares,
)
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import TraceExtra
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper

#: 2026-11-22, in the morning (UTC).
CREATED_S = 1_795_341_600.0
RULES = "Answer from the documents, in short sentences."
QUESTION = "How long may a parcel take, and who pays for its way back?"
DOCUMENTS = {
    "doc:shipping": "Parcels leave within two days. A parcel takes three to five days inside the country.",
    "doc:returns": "Whoever sends a parcel back within thirty days pays nothing for it.",
    "doc:hours": "The office is open from nine to five. On Sundays it is closed.",
}
#: Sentences of the answer, the part that each attends to most, and its risk.
ANSWER = (
    (" A parcel takes three to five days inside the country.", 2, 0.06),
    (" Its way back costs you nothing within thirty days.", 3, 0.14),
    (" Deliveries on a Sunday cost four euros more.", 4, 0.83),
    (" Ask again where anything is unclear.", 0, None),
)
PARTS = (("system", RULES, "system"), ("user:0", QUESTION, "user"))
CHOICE = HeadChoice(
    tuple((layer, head) for layer in (6, 7, 8) for head in range(0, 12, 3)),
    "the head profile chose them",
    (
        HeadGroup("retrieval", (0.25, 0.25, 0.0, 0.0, 0.25, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0)),
        HeadGroup("citation", (0.9, 0.4, 0.0, -0.3, 0.1, 0.0, 0.7, 0.2, 0.0, 0.0, 0.6, -0.1)),
    ),
)


def segments() -> PromptSegments:
    """Instructions, a question and three documents between a template's tokens."""
    parts = [
        PromptPart(name, name, role, at, None, text, 0, len(text))
        for at, (name, text, role) in enumerate(PARTS)
    ]
    parts += [
        PromptPart(name, name, "document", 1, at, text, 0, len(text))
        for at, (name, text) in enumerate(DOCUMENTS.items(), start=1)
    ]
    owners: list[int | None] = [None, None]
    for at, part in enumerate(parts):
        owners += [at] * len(str(part.text).split()) + [None]
    return PromptSegments.of(parts, owners, [None] * len(owners))


def _token(index: int, text: str, start: int, part: int, dice: np.random.Generator) -> ReadToken:
    """A token that attends to `part` most, and more to what was generated the more there is."""
    weights = dice.dirichlet(np.full(8, 0.6))
    weights[part] += 0.9
    weights[7] += 0.5 * index / (index + 12)
    weights[5] += 0.35
    weights /= weights.sum()
    masses, (sink, template, generated) = tuple(map(float, weights[:5])), map(float, weights[5:])
    shares = TokenShares(masses, sink, template, generated, float(-(weights * np.log2(weights)).sum() + 2))
    fold = np.array([sink, template, *masses, generated])
    retrieval = fold * dice.uniform(0.6, 1.4, fold.shape)
    citation = 2 * fold - 0.4 * fold[::-1]
    return ReadToken(
        100 + index, text, start, -0.2, shares, (tuple(map(float, retrieval)), tuple(map(float, citation)))
    )


def _tokens(sentences: tuple[tuple[str, int, float | None], ...], seed: int) -> tuple[ReadToken, ...]:
    dice = np.random.default_rng(seed)
    tokens, start = [], 0
    for sentence, part, _ in sentences:
        for word in sentence.split():
            tokens.append(_token(len(tokens), f" {word}", start, part, dice))
            start += len(word) + 1
    return tuple(tokens)


def report(
    request_id: str = "req-parcel", seed: int = 0, repeats: int = 1, **changes: object
) -> AttentionReport:
    """An answer of four sentences, or of as many times that."""
    made = AttentionReport(
        request_id=request_id,
        index=0,
        tenant="",
        model="house-lm",
        route="/v1/chat/completions",
        created_s=CREATED_S,
        reading=Reading(segments(), CHOICE, (12,) * 12),
        prompt_ids=tuple(range(len(segments().owners))),
        tokens=_tokens(ANSWER * repeats, seed),
        finish="stop",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _spans(told: AttentionReport) -> list[tuple[int, int, int, float | None]]:
    """The sentences of an answer without the blank before them: span, part, risk."""
    spans, start = [], 0
    while start < len(told.text):
        for sentence, part, risk in ANSWER:
            spans.append((start + 1, start + len(sentence), part, risk))
            start += len(sentence)
    return spans


def _sentences(told: AttentionReport) -> object:
    reason = "the number of documents is 3, and the risk was calibrated for 4 to 12"
    return [
        {"start": start, "end": end, "risk": risk, "reason": reason if risk is None else None}
        for start, end, _, risk in _spans(told)
    ]


def _citations(told: AttentionReport) -> object:
    return [
        {"start": start, "end": end, "segment": part, "score": 0.91 - 0.1 * part}
        for start, end, part, _ in _spans(told)
        if part in (2, 3)
    ]


#: What a fitted profile would find.
EXTRAS = (
    TraceExtra("risk", TraceLevel.L0, lambda _: 0.83),
    TraceExtra("focus", TraceLevel.L0, lambda _: 0.71),
    TraceExtra("sentences", TraceLevel.L2, _sentences),
    TraceExtra("citations", TraceLevel.L2, _citations),
)


def keeper(level: TraceLevel = TraceLevel.L3, num_others: int = 80) -> TraceKeeper:
    """Traces of the one answer, of one of 1,000 tokens, of one that holds little, and of many others."""
    made = TraceKeeper(KeeperSettings(level=level), extras=EXTRAS, clock=lambda: CREATED_S + 60 * num_others)
    for number in range(num_others):
        name = f"req-{number:03d}"
        made.told(report(name, seed=number + 10, created_s=CREATED_S - 60 * (num_others - number)))
    little = report("req-little", seed=4, created_s=CREATED_S + 1)
    made.told(replace(little, reading=replace(little.reading, trace=TraceLevel.L1)))
    made.told(report("req-long", seed=3, repeats=32, created_s=CREATED_S + 2))
    made.told(report("req-other", seed=2, created_s=CREATED_S + 3))
    made.told(report(created_s=CREATED_S + 4))
    return made
