"""Cut sources into samples, half of them with a gap, and pack these into rows. Knows no model.

A sample with a gap is a window of a file whose middle was moved to the end (Bavarian et al. 2022): prefix,
suffix, middle (PSM), or suffix, prefix and middle in one (SPM). Cuts are between any two characters, so that
a prompt which ends within a word is nothing new. A third of the gaps lie anywhere; the others end where their
line does, or a line a little below, since that is what editors ask for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int32
from tokenizers import Tokenizer

END = "<|endoftext|>"
PREFIX, SUFFIX, MIDDLE = "<|spm_prefix|>", "<|spm_suffix|>", "<|spm_middle|>"
#: Where nothing stands, so that nothing is learned.
PAD = -1
#: Control tokens of a sample, and those that a text has more when it is cut.
SPARE = 10
#: Rows that are being filled at a time.
OPEN_ROWS = 64


@dataclass(frozen=True)
class Mark:
    """A control token in a sample."""

    token: str


Sample: TypeAlias = tuple["Mark | str", ...]


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of samples, and their lengths.

    - `gap_share`: of samples with a gap, among the tokens of sources.
    - `suffix_first_share`: of these, those in the order suffix, prefix, middle.
    - `anywhere_share`: gaps between any two places, instead of at the end of a line.
    - `min_gap_window`: tokens of the shortest window with a gap; the longest is a row.
    - `task_share`: of generated conversations, among all tokens.
    """

    gap_share: float = 0.5
    suffix_first_share: float = 0.25
    anywhere_share: float = 0.33
    min_gap_window: int = 96
    task_share: float = 0.1


def samples_of(
    text: str, starts: Sequence[int], max_tokens: int, mixture: Mixture, dice: random.Random
) -> Iterator[Sample]:
    """Cut a source into windows of at most about `max_tokens`, some with a gap; together they are all of it.

    Args:
        text: The source.
        starts: Where each of its tokens begins, in code points.
        max_tokens: The length of a row.
        mixture: How often a window has a gap, and which.
        dice: What draws.
    """
    longest = max_tokens - SPARE
    shortest = min(mixture.min_gap_window, longest)
    # Windows with a gap are shorter, so that they are drawn more often to have their share of the tokens.
    weights = mixture.gap_share * longest, (1 - mixture.gap_share) * (shortest + longest) / 2
    chance = weights[0] / sum(weights)
    place = char = 0
    while char < len(text):
        has_gap = dice.random() < chance
        place += dice.randint(shortest, longest) if has_gap else longest
        stop = _line_start(text, char, starts[place]) if place < len(starts) else len(text)
        while place < len(starts) and starts[place - 1] >= stop:
            place -= 1
        window, char = text[char:stop], stop
        yield with_gap(window, mixture, dice) if has_gap else (window, Mark(END))


def with_gap(text: str, mixture: Mixture, dice: random.Random) -> Sample:
    """Move the middle of a text to its end."""
    start, stop = draw_gap(text, mixture, dice)
    before, middle, after = text[:start], text[start:stop], text[stop:]
    if dice.random() < mixture.suffix_first_share:
        return (Mark(PREFIX), Mark(SUFFIX), after, Mark(MIDDLE), before + middle, Mark(END))
    return (Mark(PREFIX), before, Mark(SUFFIX), after, Mark(MIDDLE), middle, Mark(END))


def draw_gap(text: str, mixture: Mixture, dice: random.Random) -> tuple[int, int]:
    """Where the middle of a text begins and ends, in code points."""
    lines = [match.span() for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    if not lines or dice.random() < mixture.anywhere_share:
        start, stop = sorted((dice.randint(0, len(text)), dice.randint(0, len(text))))
        return start, stop
    number = dice.randrange(len(lines))
    start, stop = lines[number]
    # Half of them begin behind the indentation, the others somewhere in the line.
    indented = start + len(text[start:stop]) - len(text[start:stop].lstrip())
    begin = indented if dice.random() < 0.5 else dice.randint(start, stop)
    if dice.random() < 0.2:
        stop = lines[min(number + dice.randint(1, 4), len(lines) - 1)][1]
    return begin, stop


def encoded(
    tokenizer: Tokenizer, samples: Sequence[Sample], max_tokens: int
) -> Iterator[Int32[np.ndarray, " n"]]:
    """Yield the tokens of each sample; one that is too long loses what is over."""
    texts = [part for sample in samples for part in sample if isinstance(part, str)]
    found = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    for sample in samples:
        tokens: list[int] = []
        for part in sample:
            tokens += next(found).ids if isinstance(part, str) else [_mark_id(tokenizer, part)]
        yield np.array(tokens[:max_tokens], np.int32)


def packed(samples: Iterable[Int32[np.ndarray, " n"]], length: int) -> Int32[np.ndarray, "rows length"]:
    """Lay samples side by side into rows; what stays empty is `PAD`.

    A sample goes where it leaves the least room, so that few tokens are lost.
    """
    filling: list[tuple[int, list[Int32[np.ndarray, " n"]]]] = []
    done: list[list[Int32[np.ndarray, " n"]]] = []
    for sample in samples:
        fitting = [place for place, (size, _) in enumerate(filling) if size + len(sample) <= length]
        if fitting:
            place = max(fitting, key=lambda one: filling[one][0])
            size, parts = filling[place]
            filling[place] = size + len(sample), [*parts, sample]
            continue
        if len(filling) == OPEN_ROWS:
            fullest = max(range(OPEN_ROWS), key=lambda one: filling[one][0])
            done.append(filling.pop(fullest)[1])
        filling.append((len(sample), [sample]))
    done += [parts for _, parts in filling]
    rows = np.full((len(done), length), PAD, np.int32)
    for row, parts in zip(rows, done, strict=True):
        tokens = np.concatenate(parts)
        row[: len(tokens)] = tokens
    return rows


def _mark_id(tokenizer: Tokenizer, mark: Mark) -> int:
    token_id = tokenizer.token_to_id(mark.token)
    assert token_id is not None, "the tokenizer was made with the control tokens"
    return token_id


def _line_start(text: str, first: int, stop: int) -> int:
    """The beginning of the line in which a window would end; the end itself where that line is all of it."""
    begin = text.rfind("\n", first, stop) + 1
    return begin if begin > first else stop
