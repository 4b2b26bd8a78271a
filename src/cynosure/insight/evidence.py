"""Fold the attention that tokens received into words of the text. Knows nothing of tensors."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class TokenWeights(Protocol):
    """Shares of attention by token of one text; with `sink_share` they sum to 1."""

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """Start and end of each token in the text, in code points."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """What each token received."""
        ...

    @property
    def sink_share(self) -> float:
        """What went to tokens that the model adds, such as [CLS] and [SEP]."""
        ...


@runtime_checkable
class AttendsTokens(Protocol):
    """Something that tells which tokens of a text it attended to."""

    def attended(self, text: str) -> TokenWeights:
        """The shares of one text."""
        ...


class WordWeight(NamedTuple):
    """A word `text[start:end]`, and what it received, 1 being the most that any word did."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Evidence:
    """The words of a text that the model attended to, in reading order.

    `word_share`, `mark_share` and `sink_share` sum to 1: what words, punctuation and added tokens received.
    A small `word_share` says that the weights, each relative to the largest, tell little. `num_tokens` were
    read of the text.
    """

    words: tuple[WordWeight, ...]
    word_share: float
    mark_share: float
    sink_share: float
    num_tokens: int = 0


def evidence_of(model: AttendsTokens, text: str) -> Evidence:
    """Return what `model` attended to in `text`, by word."""
    return folded_evidence(text, model.attended(text))


def folded_evidence(text: str, seen: TokenWeights) -> Evidence:
    """Return what was attended to in `text`, by word, of what is known by token."""
    spans = fold_words(text, seen.offsets, seen.weights)
    words = [span for span in spans if any(_is_word_like(char) for char in text[span.start : span.end])]
    most = max((word.weight for word in words), default=0.0)
    word_share = float(sum(word.weight for word in words))
    return Evidence(
        words=tuple(word._replace(weight=word.weight / most if most else 0.0) for word in words),
        word_share=word_share,
        mark_share=float(sum(seen.weights)) - word_share,
        sink_share=seen.sink_share,
        num_tokens=len(seen.offsets),
    )


def fold_words(
    text: str, offsets: Sequence[tuple[int, int]], weights: Sequence[float]
) -> tuple[WordWeight, ...]:
    """Join the pieces of each word and add up their shares; marks stay by themselves.

    Args:
        text: The text.
        offsets: Sorted spans of tokens. Pieces of one character (bytes) may share it; white space at the ends
            of a span does not count, and a span of nothing else is left out.
        weights: What each token received.
    """
    words: list[WordWeight] = []
    for (start, end), weight in zip(offsets, weights, strict=True):
        part = text[start:end]
        start, end = start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))
        if start >= end:
            continue
        if words and _continues(text, words[-1], start):
            last = words[-1]
            words[-1] = WordWeight(last.start, max(last.end, end), last.weight + weight)
        else:
            words.append(WordWeight(start, end, weight))
    return tuple(words)


def _continues(text: str, word: WordWeight, start: int) -> bool:
    """Whether what begins at `start` belongs to the word before it."""
    if start < word.end:
        return True
    # A tokenizer that strips accents leaves them out of its spans.
    if any(not _is_accent(char) for char in text[word.end : start]):
        return False
    left, right = text[word.end - 1], text[start]
    if _is_accent(right):
        return True
    return all(_is_word_like(char) and not _is_ideograph(char) for char in (left, right))


def _is_word_like(char: str) -> bool:
    return char.isalnum() or char == "_" or _is_accent(char)


def _is_accent(char: str) -> bool:
    return unicodedata.category(char).startswith("M")


def _is_ideograph(char: str) -> bool:
    """Whether a character is a word by itself, as tokenizers of the BERT kind have it."""
    return unicodedata.name(char, "").startswith("CJK ")
