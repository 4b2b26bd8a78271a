"""Say what a model attended to, in the caller's own characters. Knows nothing of tensors."""

from cynosure.insight.evidence import (
    AttendsTokens,
    Evidence,
    TokenWeights,
    WordWeight,
    evidence_of,
    fold_words,
)
from cynosure.insight.head_choice import (
    Coverage,
    HeadChoice,
    HeadGroup,
    WatchPolicy,
    coverage_of,
    default_heads,
)
from cynosure.insight.probing import ProbedModel
from cynosure.insight.prompt_segments import PromptPart, PromptSegments
from cynosure.insight.report import (
    AttentionReport,
    Reading,
    ReadToken,
    ReportSink,
    lookback,
    mass_by_role,
    tell_all,
)
from cynosure.insight.tally import Tally, TokenShares, shares_by_part

__all__ = [
    "AttendsTokens",
    "AttentionReport",
    "Coverage",
    "Evidence",
    "HeadChoice",
    "HeadGroup",
    "ProbedModel",
    "PromptPart",
    "PromptSegments",
    "ReadToken",
    "Reading",
    "ReportSink",
    "Tally",
    "TokenShares",
    "TokenWeights",
    "WatchPolicy",
    "WordWeight",
    "coverage_of",
    "default_heads",
    "evidence_of",
    "fold_words",
    "lookback",
    "mass_by_role",
    "shares_by_part",
    "tell_all",
]
