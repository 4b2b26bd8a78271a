"""Keep and search what tenants upload. Knows nothing of models: it sees Protocols."""

from cynosure.retrieval.library.filters import Comparison, Compound, Filter
from cynosure.retrieval.library.library import Library
from cynosure.retrieval.library.records import (
    Attribute,
    Batch,
    Counts,
    FileHit,
    KeptFile,
    KeptStore,
    LibraryLimits,
    Placement,
    Shelved,
)
from cynosure.retrieval.library.shelf import Shelf

__all__ = [
    "Attribute",
    "Batch",
    "Comparison",
    "Compound",
    "Counts",
    "FileHit",
    "Filter",
    "KeptFile",
    "KeptStore",
    "Library",
    "LibraryLimits",
    "Placement",
    "Shelf",
    "Shelved",
]
