"""Stand in for an embedder: a bag of hashed words. Knows nothing of models."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cynosure.retrieval import AttendedSpan, Documentation, Entry
from cynosure.retrieval.text import identifier_words

HEAP = (
    "Merge multiple sorted inputs into a single sorted output.\n\n    Similar to sorted(itertools.chain(*i))."
)
ENTRIES = (
    Entry("heapq", "module", "heapq", "", "Heap queue algorithm (a.k.a. priority queue)."),
    Entry("heapq.merge", "function", "heapq", "(*iterables, key=None)", HEAP),
    Entry("str.strip", "method", "builtins", "(self, chars)", "Return a copy without blanks at the ends."),
    Entry(
        "shutil.rmtree", "function", "shutil", "(path)", "Recursively delete a directory tree. 🙂 Ünïcode."
    ),
)
DOCUMENTATION = Documentation("test docs 1", ENTRIES, {}, {"heapq.merge": ("join files",)})


class BagOfWords:
    """Texts with common words are near; one token a word, and two special ones."""

    def __init__(self, model_id: str = "bag", max_tokens: int = 32) -> None:
        self.model_id = model_id
        self.dim = 64
        self.max_tokens = max_tokens
        self.calls: list[int] = []

    def count_tokens(self, text: str) -> int:
        return len(text.split()) + 2

    def embed(self, texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        self.calls.append(len(texts))
        vectors = np.full((len(texts), self.dim), 1e-3, dtype=np.float32)
        for row, text in enumerate(texts):
            assert self.count_tokens(text) <= self.max_tokens, "a passage would have been truncated"
            for word in identifier_words(text).split():
                vectors[row, zlib.crc32(word.encode()) % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class WordEvidence:
    """Attends to each word alike."""

    def attended(self, text: str) -> list[AttendedSpan]:
        words = text.split()
        spans, start = [], 0
        for word in words:
            start = text.index(word, start)
            spans.append(AttendedSpan(start, start + len(word), 1 / len(words)))
            start += len(word)
        return spans


class CountsWords:
    """A ranker: `relevant` is how many words of the question are in the text, or the opposite."""

    def __init__(self, sign: float = 1.0, max_tokens: int = 63) -> None:
        self.model_id = "counts words"
        self.max_tokens = max_tokens
        # In another order than the search's.
        self.labels = ("no_answer", "relevant", "answers")
        self.read: list[list[str]] = []
        self.sign = sign

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        self.read.append(list(texts))
        common = [len(set(question.lower().split()) & set(text.lower().split())) for text in texts]
        rows = [(-1.0, 100.0 * self.sign * count, 0.5) for count in common]
        return np.array(rows, dtype=np.float32).reshape(-1, 3)
