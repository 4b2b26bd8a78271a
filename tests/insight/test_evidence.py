"""Words come out whole, with their characters and with all of their attention."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.insight import WordWeight, evidence_of, fold_words


@dataclass(frozen=True)
class Seen:
    offsets: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    sink_share: float


@dataclass(frozen=True)
class FakeModel:
    seen: Seen

    def attended(self, text: str) -> Seen:
        return self.seen


def words_of(text: str, offsets: list[tuple[int, int]]) -> list[str]:
    return [text[word.start : word.end] for word in fold_words(text, offsets, [0.1] * len(offsets))]


def test_pieces_of_a_word_join_and_add_up() -> None:
    text = "merge iterables"
    folded = fold_words(text, [(0, 5), (6, 8), (8, 11), (11, 15)], [0.2, 0.1, 0.15, 0.05])
    assert [text[word.start : word.end] for word in folded] == ["merge", "iterables"]
    assert [word.weight for word in folded] == pytest.approx([0.2, 0.3])


@pytest.mark.parametrize(
    ("text", "offsets", "expected"),
    [
        ("file.read()", [(0, 4), (4, 5), (5, 9), (9, 10), (10, 11)], ["file", ".", "read", "(", ")"]),
        ("snake_case", [(0, 5), (5, 6), (6, 10)], ["snake_case"]),
        ("naïve", [(0, 2), (2, 5)], ["naïve"]),
        # The accent is a code point of its own, which the tokenizer left out.
        ("cafe\u0301s x", [(0, 4), (5, 6), (7, 8)], ["cafe\u0301s", "x"]),
        ("漢字 kana", [(0, 1), (1, 2), (3, 7)], ["漢", "字", "kana"]),
        # Three byte tokens of one character.
        ("a 🙂!", [(0, 1), (2, 3), (2, 3), (2, 3), (3, 4)], ["a", "🙂", "!"]),
        # Byte-level vocabularies count the space before a word as its own.
        ("big cat", [(0, 3), (3, 7)], ["big", "cat"]),
        ("a \n b", [(0, 1), (1, 3), (4, 5)], ["a", "b"]),
        ("", [], []),
    ],
)
def test_words_of_many_scripts(text: str, offsets: list[tuple[int, int]], expected: list[str]) -> None:
    assert words_of(text, offsets) == expected


def test_evidence_is_relative_to_the_most_attended_word_and_shares_sum_to_one() -> None:
    seen = Seen(((0, 4), (5, 9), (9, 10)), (0.1, 0.25, 0.05), 0.6)
    evidence = evidence_of(FakeModel(seen), "open file.")
    assert evidence.words == (WordWeight(0, 4, pytest.approx(0.4)), WordWeight(5, 9, 1.0))
    assert evidence.word_share == pytest.approx(0.35)
    assert evidence.mark_share == pytest.approx(0.05)
    assert evidence.word_share + evidence.mark_share + evidence.sink_share == pytest.approx(1.0)


def test_a_text_without_words_has_no_evidence() -> None:
    evidence = evidence_of(FakeModel(Seen(((0, 1),), (0.3,), 0.7)), "?")
    assert evidence.words == ()
    assert evidence.mark_share == pytest.approx(0.3)


def test_words_that_received_nothing_divide_by_nothing() -> None:
    assert evidence_of(FakeModel(Seen(((0, 1),), (0.0,), 1.0)), "a").words == (WordWeight(0, 1, 0.0),)


@given(st.text(max_size=30), st.data())
def test_no_share_is_lost_but_that_of_white_space(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    offsets = list(itertools.pairwise(cuts))
    weights = [1.0] * len(offsets)
    folded = fold_words(text, offsets, weights)
    visible = sum(1 for start, end in offsets if text[start:end].strip())
    assert sum(word.weight for word in folded) == pytest.approx(visible)
    assert all(text[word.start : word.end].strip() == text[word.start : word.end] for word in folded)
    assert all(left.end <= right.start for left, right in itertools.pairwise(folded))
