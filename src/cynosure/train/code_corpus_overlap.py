"""Find files that share runs of code with what is held out. Knows nothing of where files come from.

A file that holds 13 tokens in a row of a held-out one (Brown et al. 2020, appendix C, count words; these are
Python's words and signs) may teach it by heart. Runs that everybody writes teach nothing: those of few
different words, and those that the held-out files share among themselves.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt64

LENGTH = 13
#: A run with fewer different words is boilerplate: brackets, zeros, `if __name__ == "__main__"`.
MIN_WORDS = 6
#: A run that more held-out files hold is how tests and modules begin, and belongs to none.
MAX_OWNERS = 2

_TOKEN = re.compile(r"\w+|[^\w\s]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Overlap:
    """The runs of code of texts that must not be learned."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Collect the runs of each text."""
        owners: Counter[int] = Counter()
        for text in texts:
            owners.update(set(_runs(text).tolist()))
        kept = [run for run, count in owners.items() if count <= MAX_OWNERS]
        self._runs: UInt64[np.ndarray, " n"] = np.array(sorted(kept), np.uint64)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    def num_shared(self, text: str) -> int:
        """How many runs of a text are among them."""
        runs = _runs(text)
        if not len(self._runs) or not len(runs):
            return 0
        places = np.searchsorted(self._runs, runs).clip(max=len(self._runs) - 1)
        return int((self._runs[places] == runs).sum())

    def is_shared_by(self, text: str) -> bool:
        """Whether a text holds one of them."""
        return self.num_shared(text) > 0


def _runs(text: str) -> UInt64[np.ndarray, " n"]:
    """A number for each run of a text that has words enough."""
    tokens = _TOKEN.findall(text)
    if len(tokens) < LENGTH:
        return np.empty(0, np.uint64)
    ids: dict[str, int] = {}
    order = np.array([ids.setdefault(token, len(ids)) for token in tokens])
    marks = np.array([_mark(token) for token in ids], np.uint64)[order]
    is_word = np.array([token[0].isalpha() or token[0] == "_" for token in ids])[order]
    count = len(tokens) - LENGTH + 1
    runs = np.zeros(count, np.uint64)
    for place in range(LENGTH):
        runs = runs * _FACTOR + marks[place : place + count]
    return runs[_num_words(order, is_word) >= MIN_WORDS]


def _num_words(order: Int64[np.ndarray, " n"], is_word: np.ndarray) -> Int64[np.ndarray, " runs"]:
    """How many different words each run has: a word counts where it was not used earlier in the run."""
    last: dict[int, int] = {}
    before = np.full(len(order), -1)
    for place, token in enumerate(order.tolist()):
        before[place] = last.get(token, -1)
        last[token] = place
    count = len(order) - LENGTH + 1
    found = np.zeros(count, np.int64)
    for place in range(LENGTH):
        is_first = before[place : place + count] < np.arange(count)
        found += is_first & is_word[place : place + count]
    return found


def _mark(token: str) -> int:
    """The same number for the same token on every machine."""
    value = 14695981039346656037
    for byte in token.encode():
        value = (value ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return value
