"""The hearth: what attention is, as values and one function. Knows nothing of models, caches or engines."""

from cynosure.attention.attend import attend
from cynosure.attention.backends.call import AttentionWeights
from cynosure.attention.combine import combine
from cynosure.attention.explain import explain
from cynosure.attention.memory_source import MemorySource
from cynosure.attention.plan import AttentionPlan, KeyPlan, QueryPlan
from cynosure.attention.sources import DenseSource, PagedSource, PageScales, Source
from cynosure.attention.spec import AttentionSpec, Differential, Gate, Heads, LogN, Score, Sink, TopK
from cynosure.attention.state import AttentionState, merge
from cynosure.attention.stats import Stats, Watch

__all__ = [
    "AttentionPlan",
    "AttentionSpec",
    "AttentionState",
    "AttentionWeights",
    "DenseSource",
    "Differential",
    "Gate",
    "Heads",
    "KeyPlan",
    "LogN",
    "MemorySource",
    "PageScales",
    "PagedSource",
    "QueryPlan",
    "Score",
    "Sink",
    "Source",
    "Stats",
    "TopK",
    "Watch",
    "attend",
    "combine",
    "explain",
    "merge",
]
