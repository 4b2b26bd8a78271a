"""Say what a model attended to, in the caller's own characters. Knows nothing of tensors."""

from cynosure.insight.evidence import (
    AttendsTokens,
    Evidence,
    TokenWeights,
    WordWeight,
    evidence_of,
    fold_words,
    folded_evidence,
)
from cynosure.insight.head_choice import (
    Coverage,
    HeadChoice,
    HeadGroup,
    WatchPolicy,
    coverage_of,
    default_heads,
)
from cynosure.insight.heads.profile_choice import choice_of
from cynosure.insight.probing import ProbedModel
from cynosure.insight.profile import HeadProfile, read_profile, write_profile
from cynosure.insight.prompt_segments import PromptPart, PromptSegments, role_of
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
    "HeadProfile",
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
    "choice_of",
    "coverage_of",
    "default_heads",
    "evidence_of",
    "fold_words",
    "folded_evidence",
    "lookback",
    "mass_by_role",
    "read_profile",
    "role_of",
    "shares_by_part",
    "tell_all",
    "write_profile",
]
