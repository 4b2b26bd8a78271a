"""Make reports of answers by hand, of which every text is known. Asserts nothing."""

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

#: 2026-11-22, some seconds after midnight (UTC).
CREATED_S = 1_795_305_600.0 + 5.25
#: What no level below L3 may hold anywhere.
CANARY = "canary-4711"
CHOICE = HeadChoice(
    ((0, 1), (1, 0), (1, 3)),
    "a test chose them",
    (HeadGroup("retrieval", (0.5, 0.5, 0.0)), HeadGroup("odd", (-1.0, 2.0, 0.25))),
)
STORY = f"{CANARY} is here. It sleeps."


def segments() -> PromptSegments:
    """A template's two tokens, a system text, a document of two sentences that a caller named, a question."""
    parts = (
        PromptPart("system", "system", "system", 0, None, f"Keep {CANARY}.", 0, 17),
        PromptPart(f"doc:{CANARY}#0", f"doc:{CANARY}", "document", 1, 0, STORY, 0, 21),
        PromptPart(f"doc:{CANARY}#1", f"doc:{CANARY}", "document", 1, 0, STORY, 21, 31),
        PromptPart("user:0", "user:0", "user", 1, 1, "Where?", 0, 6),
    )
    owners = [None, None, 0, 0, 1, 1, 1, 2, 2, 3]
    offsets = [None, None, *[(0, 1)] * 8]
    return PromptSegments.of(parts, owners, offsets)


def token(index: int, text: str, start: int, *, is_watched: bool = True, seed: int = 0) -> ReadToken:
    """A token with random shares that sum to 1, and folds of all parts."""
    dice = np.random.default_rng([seed, index])
    whole = dice.dirichlet(np.ones(7)).astype(np.float32)
    *masses, sink, template, generated = map(float, whole)
    shares = TokenShares(tuple(masses), sink, template, generated, float(np.float32(dice.uniform(0, 9))))
    # Sink and template are an engine's first parts, and what was generated its last.
    folds = tuple(tuple(map(float, dice.normal(size=7).astype(np.float32))) for _ in CHOICE.groups)
    if not is_watched:
        return ReadToken(40 + index, text, start, -0.5)
    return ReadToken(40 + index, text, start, -0.25 * index, shares, folds)


def report(request_id: str = "r-1", **changes: object) -> AttentionReport:
    """An answer of three tokens, all watched."""
    tokens = (token(0, CANARY, 0), token(1, " is", 11), token(2, "", 14))
    made = AttentionReport(
        request_id=request_id,
        index=0,
        tenant="tenant-a",
        model="tiny",
        route="/v1/chat/completions",
        created_s=CREATED_S,
        reading=Reading(segments(), CHOICE, (4, 4)),
        prompt_ids=tuple(range(100, 110)),
        tokens=tokens,
        finish="stop",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def half_watched(num_tokens: int, seed: int = 0) -> tuple[ReadToken, ...]:
    """An answer whose every second token is watched."""
    return tuple(token(n, f"w{n} ", 4 * n, is_watched=n % 2 == 0, seed=seed) for n in range(num_tokens))
