"""Find what documentation says about a question, and quote it. Knows nothing of models: it sees Protocols."""

from cynosure.retrieval.answer import QuotedAnswer, QuotedPassage, quote
from cynosure.retrieval.answer_gate import FILE_GATE, GATE, Gate
from cynosure.retrieval.answering import Answered, Answering
from cynosure.retrieval.documents import Documentation, Entry, Passage
from cynosure.retrieval.index import build_index, open_index
from cynosure.retrieval.protocols import AttendedSpan, Embedder, Evidence, Progress, Ranker
from cynosure.retrieval.python_docs import python_source, read_python_docs
from cynosure.retrieval.rank import CALIBRATION, LINE, RANKING, WEIGHTS, Calibration, Ranking, Weights
from cynosure.retrieval.reference import checked_reference, find_reference
from cynosure.retrieval.search import LABELS, MAX_QUESTION, MAX_RESULTS, DocsSearch, Found, Hit
from cynosure.retrieval.store import Store

__all__ = [
    "CALIBRATION",
    "FILE_GATE",
    "GATE",
    "LABELS",
    "LINE",
    "MAX_QUESTION",
    "MAX_RESULTS",
    "RANKING",
    "WEIGHTS",
    "Answered",
    "Answering",
    "AttendedSpan",
    "Calibration",
    "DocsSearch",
    "Documentation",
    "Embedder",
    "Entry",
    "Evidence",
    "Found",
    "Gate",
    "Hit",
    "Passage",
    "Progress",
    "QuotedAnswer",
    "QuotedPassage",
    "Ranker",
    "Ranking",
    "Store",
    "Weights",
    "build_index",
    "checked_reference",
    "find_reference",
    "open_index",
    "python_source",
    "quote",
    "read_python_docs",
]
