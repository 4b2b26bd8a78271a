"""Propose the rest of a line without a model: by n-grams, by the nearest line, by jedi. Judges nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import jedi
import numpy as np

from evals.code_lines import Masked

_TOKEN = re.compile(r"\n|[^\S\n]+|\w+|[^\w\s]")
MAX_ORDER = 6
MAX_TOKENS = 40
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class NgramCache:
    """The likeliest next token by the longest run that was seen, in the file or in the training corpus.

    At the same length, the file's own word counts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Count what follows each run of one to `MAX_ORDER` tokens."""
        self._ids: dict[str, int] = {}
        ids = [self._ids.setdefault(t, len(self._ids)) for text in texts for t in _TOKEN.findall(f"{text}\n")]
        self._words = list(self._ids)
        stream = np.array(ids, np.int32)
        self._tables = [_followers(stream, order) for order in range(1, MAX_ORDER + 1)]

    def propose(self, masked: Masked) -> str:
        """Write tokens until the line ends."""
        own = _own_followers(_TOKEN.findall(masked.prefix), _TOKEN.findall(masked.suffix))
        context = _TOKEN.findall(masked.prefix)[-MAX_ORDER:]
        written: list[str] = []
        while len(written) < MAX_TOKENS:
            token = self._next([*context, *written], own)
            if token is None or token == "\n":
                break
            written.append(token)
        return "".join(written).rstrip()

    def _next(self, context: Sequence[str], own: dict[tuple[str, ...], Counter[str]]) -> str | None:
        for order in range(MAX_ORDER, 0, -1):
            run = tuple(context[-order:])
            if len(run) == order:
                if run in own:
                    return own[run].most_common(1)[0][0]
                found = self._trained(run)
                if found is not None:
                    return found
        return None

    def _trained(self, run: tuple[str, ...]) -> str | None:
        if any(token not in self._ids for token in run):
            return None
        wanted = _hashes(np.array([self._ids[token] for token in run], np.int32), len(run))[0]
        keys, followers = self._tables[len(run) - 1]
        place = int(np.searchsorted(keys, wanted))
        return self._words[followers[place]] if place < len(keys) and keys[place] == wanted else None


def nearest_line(masked: Masked) -> str:
    """What follows in the nearest line that begins alike, its indentation included."""
    before, after = masked.prefix.split("\n")[:-1], masked.suffix.split("\n")[1:]
    near = [*before[::-1], *after]
    distances = [*range(1, len(before) + 1), *range(1, len(after) + 1)]
    order = sorted(range(len(near)), key=lambda place: distances[place])
    typed = masked.typed
    for place in order:
        line = near[place]
        rest = line[len(typed) :]
        is_alike = line.startswith(typed) and rest.strip() and (typed.strip() or not rest[0].isspace())
        if is_alike:
            return rest.rstrip()
    return ""


def by_jedi(masked: Masked, library: Path) -> str:
    """Jedi's first proposal, and its first one after that, as long as there is one that adds a letter."""
    written = ""
    for _ in range(3):
        text = masked.filled(written)
        before = masked.prefix + written
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2])
        found = jedi.Script(text, path=library / masked.path).complete(line, column)
        added = next((one.complete for one in found[:1] if one.complete), "")
        if not added:
            break
        written += added
    return written


def _own_followers(before: list[str], after: list[str]) -> dict[tuple[str, ...], Counter[str]]:
    found: dict[tuple[str, ...], Counter[str]] = {}
    for tokens in (before, after):
        for order in range(1, MAX_ORDER + 1):
            for place in range(order, len(tokens)):
                found.setdefault(tuple(tokens[place - order : place]), Counter())[tokens[place]] += 1
    return found


def _hashes(stream: np.ndarray, order: int) -> np.ndarray:
    count = len(stream) - order + 1
    found = np.zeros(max(count, 0), np.uint64)
    for place in range(order):
        found = found * _FACTOR + stream[place : place + count].astype(np.uint64) + np.uint64(1)
    return found


def _followers(stream: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of a length, sorted, and what follows each most often."""
    keys, follows = _hashes(stream[:-1], order), stream[order:]
    ranked = np.lexsort((follows, keys))
    keys, follows = keys[ranked], follows[ranked]
    is_new = np.empty(len(keys), bool)
    is_new[0] = True
    is_new[1:] = (keys[1:] != keys[:-1]) | (follows[1:] != follows[:-1])
    starts = np.flatnonzero(is_new)
    counts = np.diff(np.append(starts, len(keys)))
    keys, follows = keys[starts], follows[starts]
    best = np.lexsort((-counts, keys))
    keys, follows = keys[best], follows[best]
    is_first = np.empty(len(keys), bool)
    is_first[0] = True
    is_first[1:] = keys[1:] != keys[:-1]
    return keys[is_first], follows[is_first]
