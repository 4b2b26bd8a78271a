"""Say what a model attended to, in the caller's own characters. Knows nothing of tensors."""

from cynosure.insight.evidence import (
    AttendsTokens,
    Evidence,
    TokenWeights,
    WordWeight,
    evidence_of,
    fold_words,
)
from cynosure.insight.head_choice import Coverage, HeadChoice, coverage_of, default_heads
from cynosure.insight.prompt_segments import PromptPart, PromptSegments
from cynosure.insight.tally import Tally, TokenShares, shares_by_part

__all__ = [
    "AttendsTokens",
    "Coverage",
    "Evidence",
    "HeadChoice",
    "PromptPart",
    "PromptSegments",
    "Tally",
    "TokenShares",
    "TokenWeights",
    "WordWeight",
    "coverage_of",
    "default_heads",
    "evidence_of",
    "fold_words",
    "shares_by_part",
]
