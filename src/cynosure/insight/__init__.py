"""Say what a model attended to, in the caller's own characters. Knows nothing of tensors."""

from cynosure.insight.evidence import (
    AttendsTokens,
    Evidence,
    TokenWeights,
    WordWeight,
    evidence_of,
    fold_words,
)

__all__ = ["AttendsTokens", "Evidence", "TokenWeights", "WordWeight", "evidence_of", "fold_words"]
