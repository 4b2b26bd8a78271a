from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.server.stop_text import StopText

ALPHABET = st.text(alphabet="ab\n", max_size=12)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def _stopped(text: str, stops: list[str]) -> str:
    """What the class must hand out in all, said in one line."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


@given(st.lists(ALPHABET, max_size=6), STOPS)
def test_pieces_give_what_the_whole_text_gives(pieces: list[str], stops: list[str]) -> None:
    stop = StopText(stops)
    given_out = ""
    for end, piece in enumerate(pieces, start=1):
        given_out += stop.push(piece)
        # What is out may not change when the stop string completes later.
        assert "".join(pieces[:end]).startswith(given_out)
    # A stop that begins earlier and completes later can't be known of once a shorter one has ended the text.
    whole = _stopped("".join(pieces), stops)
    given_out += stop.finish()
    assert (
        given_out == whole or (stop.is_stopped and whole.startswith(given_out)) or given_out.startswith(whole)
    )


@given(st.lists(ALPHABET, max_size=6), st.text(alphabet="ab\n", min_size=1, max_size=4))
def test_one_stop_string_is_exact(pieces: list[str], stop_string: str) -> None:
    stop = StopText([stop_string])
    given_out = "".join(stop.push(piece) for piece in pieces) + stop.finish()
    whole = "".join(pieces)
    assert given_out == _stopped(whole, [stop_string])
    assert stop.is_stopped == (stop_string in whole)


def test_only_what_may_begin_a_stop_string_is_held_back() -> None:
    stop = StopText(["END"])
    assert [stop.push(piece) for piece in ("text E", "N", "x", " EN", "D more", "after")] == [
        "text ", "", "ENx", " ", "", "",
    ]  # fmt: skip
    assert stop.is_stopped
    assert stop.finish() == ""


def test_without_stop_strings_nothing_is_held_back() -> None:
    stop = StopText([])
    assert stop.push("anything") == "anything"
    assert not stop.is_stopped


def test_an_empty_stop_string_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        StopText([""])
