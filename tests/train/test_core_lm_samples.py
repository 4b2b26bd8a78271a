"""Samples hold all of a source, and what was moved can be put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Tokenizer

from cynosure.train.core_lm_samples import (
    END,
    MIDDLE,
    PAD,
    PREFIX,
    SUFFIX,
    Mark,
    Mixture,
    Sample,
    draw_gap,
    encoded,
    packed,
    samples_of,
    with_gap,
)
from cynosure.train.tiny_text import train_tokenizer

TEXT = "".join(
    f"def function_{n}(first, second):\n    # é {n}\n    return first + {n} * second\n\n\n" for n in range(60)
)
CONTROL = (END, PREFIX, SUFFIX, MIDDLE)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT], 320, CONTROL)


def starts_of(tokenizer: Tokenizer, text: str) -> list[int]:
    return [start for start, _ in tokenizer.encode(text).offsets]


def restored(sample: Sample) -> str:
    """The text that a sample was cut from."""
    parts = [part for part in sample if isinstance(part, str)]
    marks = [part.token for part in sample if isinstance(part, Mark)]
    if marks == [END]:
        return parts[0]
    if marks == [PREFIX, SUFFIX, MIDDLE, END] and isinstance(sample[1], str):
        prefix, suffix, middle = parts
        return prefix + middle + suffix
    assert marks == [PREFIX, SUFFIX, MIDDLE, END]
    suffix, rest = parts
    return rest + suffix


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("text", [TEXT, "x = 1", "one line without an end " * 90, "\n\n\n", "é"])
def test_windows_are_all_of_a_source_in_order(tokenizer: Tokenizer, text: str, seed: int) -> None:
    samples = list(samples_of(text, starts_of(tokenizer, text), 160, Mixture(), random.Random(seed)))
    assert "".join(map(restored, samples)) == text
    assert max(len(tokens) for tokens in encoded(tokenizer, samples, 10**6)) <= 160 + 8


def test_shares_are_those_that_were_asked_for(tokenizer: Tokenizer) -> None:
    dice, starts = random.Random(5), starts_of(tokenizer, TEXT)
    samples = [s for _ in range(60) for s in samples_of(TEXT, starts, 512, Mixture(), dice)]
    lengths = [len(tokens) for tokens in encoded(tokenizer, samples, 512)]
    gaps = [length for sample, length in zip(samples, lengths, strict=True) if len(sample) > 2]
    assert sum(gaps) / sum(lengths) == pytest.approx(0.5, abs=0.08)
    swapped = [sample for sample in samples if len(sample) == 6]
    assert len(swapped) / len(gaps) == pytest.approx(0.25, abs=0.08)
    assert not [s for s in samples_of(TEXT, starts, 512, Mixture(gap_share=0), dice) if len(s) > 2]


def test_gaps_end_where_lines_do_or_anywhere() -> None:
    dice = random.Random(3)
    at_ends = [draw_gap(TEXT, Mixture(anywhere_share=0), dice) for _ in range(300)]
    assert all(TEXT[stop] == "\n" and start <= stop for start, stop in at_ends)
    assert any("\n" in TEXT[start:stop] for start, stop in at_ends)
    assert any(TEXT[start - 1] not in " \n" for start, _ in at_ends), "within a word or a line"
    anywhere = [draw_gap(TEXT, Mixture(anywhere_share=1), dice) for _ in range(300)]
    assert any(TEXT[stop : stop + 1] not in "\n" for _, stop in anywhere)
    assert draw_gap("", Mixture(), dice) == (0, 0)


def test_either_order_of_a_gap(tokenizer: Tokenizer) -> None:
    first = with_gap("ab\ncd\n", Mixture(suffix_first_share=0), random.Random(0))
    assert [part for part in first if isinstance(part, Mark)] == [
        Mark(t) for t in (PREFIX, SUFFIX, MIDDLE, END)
    ]
    assert isinstance(first[1], str)
    second = with_gap("ab\ncd\n", Mixture(suffix_first_share=1), random.Random(0))
    assert second[:2] == (Mark(PREFIX), Mark(SUFFIX))
    ids = next(encoded(tokenizer, [first], 99)).tolist()
    assert [ids.count(tokenizer.token_to_id(token)) for token in CONTROL] == [1, 1, 1, 1]
    assert next(encoded(tokenizer, [first], 3)).tolist() == ids[:3]


def test_rows_hold_each_sample_whole() -> None:
    dice = np.random.default_rng(0)
    samples = [np.full(int(size), number, np.int32) for number, size in enumerate(dice.integers(1, 50, 400))]
    rows = packed(iter(samples), 64)
    for number, sample in enumerate(samples):
        places = np.argwhere(rows == number)
        assert len(places) == len(sample)
        assert len(set(places[:, 0].tolist())) == 1
        assert places[-1, 1] - places[0, 1] == len(sample) - 1
    assert (rows == PAD).mean() < 0.05
    assert packed(iter([]), 64).shape == (0, 64)
