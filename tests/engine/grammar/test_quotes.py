"""Quotes are found again in an answer, with where they stand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine.grammar.quotes import Quoted, quotes_in

TEXTS = ["The star.\nIt stands still.", "It moves: 東京 🙂."]


def told(answer: str, min_chars: int = 1) -> list[tuple[str, int, int]]:
    found = quotes_in(answer, TEXTS, min_chars=min_chars)
    for quote in found:
        assert answer[quote.start : quote.end] == TEXTS[quote.text][quote.source_start : quote.source_end]
    return [(answer[quote.start : quote.end], quote.text, quote.source_start) for quote in found]


def test_offsets_count_code_points() -> None:
    assert quotes_in("🙂.\nstill", TEXTS) == (Quoted(0, 2, 1, 13, 15), Quoted(3, 8, 0, 20, 25))


def test_lines_that_follow_each_other_are_one_quote() -> None:
    assert told("star.\nIt stands\nIt moves") == [("star.\nIt stands", 0, 4), ("It moves", 1, 0)]


def test_the_first_place_is_told() -> None:
    assert told("It ") == [("It ", 0, 10)]
    assert told("It m") == [("It m", 1, 0)]


def test_what_stands_nowhere_is_in_no_quote() -> None:
    assert told("The star.\n[email]\nIt moves") == [("The star.", 0, 0), ("It moves", 1, 0)]
    assert told("") == told("\n\n") == told("nothing of this") == []


def test_a_short_quote_is_told_only_where_there_is_no_other_reading() -> None:
    texts = ["aaaa\nb", "b\ncc"]
    assert [quote.end for quote in quotes_in("aaaa\nb\ncc", texts, min_chars=1)] == [6, 9]
    assert [quote.end for quote in quotes_in("aaaa\nb\ncc", texts, min_chars=4)] == [4, 9]
    assert [quote.end for quote in quotes_in("aaaa\nb\nc", texts, min_chars=4)] == [6, 8], "it was cut short"


def test_half_a_character_at_the_end_is_in_no_quote() -> None:
    assert told("moves: \ufffd") == [("moves: ", 1, 3)]
    assert quotes_in("a\ufffd", ["a\ufffdb"]) == (Quoted(0, 2, 0, 0, 2),)


@given(
    st.lists(st.text("ab\n", min_size=1, max_size=8), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7), st.integers(1, 8)), min_size=1, max_size=4),
)
def test_what_was_put_together_of_quotes_is_found_whole(
    texts: list[str], cuts: list[tuple[int, int, int]]
) -> None:
    quotes = [texts[text % len(texts)][start : start + length].strip("\n") for text, start, length in cuts]
    answer = "\n".join(quote for quote in quotes if quote)
    found = quotes_in(answer, texts)
    assert "\n".join(answer[quote.start : quote.end] for quote in found) == answer
    assert len(found) <= sum(map(bool, quotes))
