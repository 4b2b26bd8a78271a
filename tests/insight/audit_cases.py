"""Build reports of answers over documents, for tests of what audits them. Asserts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    HeadGroup,
    HeadProfile,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    TokenShares,
)

#: Words are tokens. Of the documents, the fourth is longer than twice the others.
DOCUMENTS = ("ann likes tea", "bob likes ale", "cas likes rum", "dan likes " + "very " * 6 + "old port")
QUESTION = "who likes tea"
HEADS = ((0, 0), (1, 1))


def segments() -> PromptSegments:
    """The template's first token, documents, a question, and the template's last."""
    parts = [PromptPart(f"doc:{n}", f"doc:{n}", "document", text=text) for n, text in enumerate(DOCUMENTS)]
    parts.append(PromptPart("user", "user", "user", text=QUESTION))
    owners: list[int | None] = [None]
    for index, part in enumerate(parts):
        owners += [index] * len((part.text or "").split())
    owners.append(None)
    return PromptSegments.of(parts, owners, [None] * len(owners))


def reading(profile: HeadProfile | None = None, group: str = "citation") -> Reading:
    """What is watched: two heads, and a group of them."""
    choice = HeadChoice(HEADS, "a test chose them", (HeadGroup(group, (1.0, 0.5)),))
    return Reading(segments(), choice, (1, 2), profile=profile)


def report(
    words: Sequence[str], attended: Sequence[Sequence[float]], whole: Reading | None = None
) -> AttentionReport:
    """An answer of words; what each attended to of the four documents, the question and itself."""
    tokens, place = [], 0
    for number, (word, masses) in enumerate(zip(words, attended, strict=True)):
        text = word if not tokens else f" {word}"
        *parts, generated = masses
        shares = TokenShares(tuple(parts), 1 - sum(masses), 0.0, generated, 1.0)
        fold = (0.0, 0.0, *masses)
        tokens.append(ReadToken(100 + number, text, place, shares=shares, folds=(fold,)))
        place += len(text)
    chosen = whole or reading()
    prompt_ids = tuple(range(len(chosen.segments.owners)))
    return AttentionReport("r", 0, "anna", "m", "/", 0.0, chosen, prompt_ids, tuple(tokens), "stop")


def two_sentences(whole: Reading | None = None) -> AttentionReport:
    """The first is of the first document, the second of the third."""
    first, third = (0.6, 0.1, 0.0, 0.0, 0.1, 0.0), (0.0, 0.1, 0.5, 0.0, 0.1, 0.1)
    return report(["ann", "does.", "cas", "not."], [first, first, third, third], whole)


def denying(told: AttentionReport, start: int, end: int) -> AttentionReport:
    """The same where the caller denied some tokens."""
    return replace(told, bias=((start, end, float("-inf")),))
