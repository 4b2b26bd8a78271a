"""Put what an answer attended to into a row of numbers. Knows nothing of what rows are compared with.

Answers whose heads were others can't be compared: `watched_digest` says which heads, under which weights.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cynosure.insight.head_choice import HeadChoice
from cynosure.insight.prompt_segments import GENERATED, SINK, TEMPLATE
from cynosure.insight.report import AttentionReport, lookback

#: Whose words are followed, and whose are only read.
TRUSTED, UNTRUSTED = ("system", "user", "assistant", "tools"), ("document", "tool")
_MASSES = ("system", "user", "assistant", "tool", "tools", "document", "image", TEMPLATE, GENERATED)
#: Finer than the statistics are: two values that differ by less are one.
_DIGITS = 6


@dataclass(frozen=True)
class Feature:
    """A number of an answer: its name, what people call it, and its unit."""

    name: str
    title: str
    unit: str


FEATURES = (
    *(Feature(f"mass_{role}", f"attended to {role}", "share") for role in _MASSES),
    Feature("sink_mass", "attended to the sink", "share"),
    Feature("entropy", "entropy of attention", "bits"),
    Feature("lookback", "lookback to the prompt", "share"),
    Feature("focus", "focus on trusted parts", "share"),
    Feature("documents", "documents in the prompt", "log2 documents"),
    Feature("prompt_tokens", "tokens of the prompt", "log2 tokens"),
    Feature("answer_tokens", "tokens of the answer", "log2 tokens"),
)


class AnswerFeatures(NamedTuple):
    """One answer: a value for each of `FEATURES`, and how long its prompt was."""

    values: tuple[float, ...]
    num_prompt_tokens: int


def features_of(report: AttentionReport) -> AnswerFeatures | None:
    """The row of an answer; None where none of its tokens was watched."""
    mean = report.mean
    if mean is None:
        return None
    segments = report.reading.segments
    # Sentences of one document are parts of their own where a request asks for them; their name is one.
    documents = {part.name for part in segments.parts if part.role == "document"}
    return features_from(
        report.mass_by_role,
        mean.entropy_bits,
        lookback(mean),
        len(documents),
        len(report.prompt_ids),
        len(report.tokens),
    )


def features_from(
    mass_by_role: Mapping[str, float],
    entropy_bits: float,
    looked_back: float,
    num_documents: int,
    num_prompt_tokens: int,
    num_tokens: int,
) -> AnswerFeatures:
    """The same from numbers alone."""
    values = (
        *(mass_by_role.get(role, 0.0) for role in _MASSES),
        mass_by_role[SINK],
        entropy_bits,
        looked_back,
        plain_focus(mass_by_role),
        math.log2(1 + num_documents),
        math.log2(max(1, num_prompt_tokens)),
        math.log2(max(1, num_tokens)),
    )
    return AnswerFeatures(tuple(round(value, _DIGITS) for value in values), num_prompt_tokens)


def plain_focus(mass_by_role: Mapping[str, float]) -> float:
    """The share of trusted parts in what went to trusted and untrusted ones; 1 without untrusted ones."""
    trusted, untrusted = (sum(mass_by_role.get(role, 0.0) for role in of) for of in (TRUSTED, UNTRUSTED))
    return trusted / (trusted + untrusted) if untrusted else 1.0


def watched_digest(choice: HeadChoice) -> str:
    """What stands for the heads that are watched; by what weights they are folded too leaves no mark here."""
    text = json.dumps([list(head) for head in choice.heads], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
