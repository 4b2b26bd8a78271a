"""Find what documentation says about a question, and quote it. Knows nothing of models: it sees Protocols."""

from cynosure.retrieval.answer import QuotedAnswer, QuotedPassage, quote
from cynosure.retrieval.documents import Documentation, Entry, Passage
from cynosure.retrieval.index import build_index, open_index
from cynosure.retrieval.protocols import AttendedSpan, Embedder, Evidence, Progress
from cynosure.retrieval.python_docs import python_source, read_python_docs
from cynosure.retrieval.rank import CALIBRATION, WEIGHTS, Calibration, Weights
from cynosure.retrieval.search import MAX_QUESTION, MAX_RESULTS, DocsSearch, Found, Hit
from cynosure.retrieval.store import Store

__all__ = [
    "CALIBRATION",
    "MAX_QUESTION",
    "MAX_RESULTS",
    "WEIGHTS",
    "AttendedSpan",
    "Calibration",
    "DocsSearch",
    "Documentation",
    "Embedder",
    "Entry",
    "Evidence",
    "Found",
    "Hit",
    "Passage",
    "Progress",
    "QuotedAnswer",
    "QuotedPassage",
    "Store",
    "Weights",
    "build_index",
    "open_index",
    "python_source",
    "quote",
    "read_python_docs",
]
