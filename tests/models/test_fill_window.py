from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.core.errors import InputTooLong
from cynosure.models.fill_in import FORMS, fill_in
from cynosure.models.fill_window import fill_window, whole_lines
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.test_fill_in import tokenizer_with
from tests.models.tiny_tokenizers import byte_fallback, byte_level

LINES = "".join(f"the star {number}\n" for number in range(200))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tokenizer_with(tmp_path_factory.mktemp("byte-level"), byte_level(), FORMS[0].tokens)


def test_a_text_that_fits_is_shown_whole(tokenizer: Tokenizer) -> None:
    whole = fill_in(tokenizer, "the sailor ", "\nthe star")
    for room in (len(whole.token_ids), 400):
        seen = fill_window(tokenizer, "the sailor ", "\nthe star", room)
        assert (seen.prompt, seen.start, seen.end) == (whole, 0, len("\nthe star"))
    assert fill_window(tokenizer, "the sailor ", "\nthe star", len(whole.token_ids) - 1).prompt != whole


def test_of_a_long_text_the_nearest_whole_lines_are_shown(tokenizer: Tokenizer) -> None:
    prefix = f"{LINES}    the"
    seen = fill_window(tokenizer, prefix, f" end\n{LINES}", 200)
    assert 150 < len(seen.prompt.token_ids) <= 200
    before, behind = prefix[seen.start :], f" end\n{LINES}"[: seen.end]
    assert before.startswith("the star ")
    assert prefix[seen.start - 1] == "\n"
    assert behind.endswith("\n")
    assert behind.startswith(" end\nthe star 0\n")
    assert len(before) > 2 * len(behind)


def test_what_one_side_leaves_the_other_takes(tokenizer: Tokenizer) -> None:
    alone = fill_window(tokenizer, "", LINES, 200)
    assert len(LINES[: alone.end]) > 250
    beside = fill_window(tokenizer, LINES, LINES, 200)
    assert beside.end < alone.end


def test_a_line_that_is_longer_than_the_window_is_cut(tokenizer: Tokenizer) -> None:
    seen = fill_window(tokenizer, "a\n" + "xq" * 500, "", 100)
    assert 2 < seen.start < 1002
    assert len(seen.prompt.token_ids) > 90


@pytest.mark.parametrize("room", [3, 4, 5, 8])
def test_the_least_windows(tokenizer: Tokenizer, room: int) -> None:
    assert len(fill_window(tokenizer, LINES, LINES, room).prompt.token_ids) <= room


def test_marks_alone_do_not_fit(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputTooLong, match="2 tokens at most"):
        fill_window(tokenizer, "a", "b", 2)


@settings(max_examples=60, deadline=None)
@given(prefix=st.text(max_size=80), suffix=st.text(max_size=80), room=st.integers(8, 60))
def test_no_window_is_longer_than_its_room(tokenizer: Tokenizer, prefix: str, suffix: str, room: int) -> None:
    seen = fill_window(tokenizer, prefix, suffix, room)
    assert len(seen.prompt.token_ids) <= room
    assert seen.prompt == fill_in(tokenizer, prefix[seen.start :], suffix[: seen.end])


def test_a_tokenizer_that_puts_a_space_before_a_text_keeps_the_limit(tmp_path: Path) -> None:
    llama = tokenizer_with(tmp_path, byte_fallback(), FORMS[4].tokens)
    for room in range(8, 40):
        assert len(fill_window(llama, LINES, LINES, room).prompt.token_ids) <= room


def test_edges_move_to_where_lines_begin() -> None:
    prefix, suffix = "ab\ncd\nef", "gh\nij\nkl"
    assert whole_lines(prefix, suffix, 1, 4) == (3, 3)
    assert whole_lines(prefix, suffix, 3, 3) == (3, 3)
    assert whole_lines(prefix, suffix, 0, len(suffix)) == (0, len(suffix))
    assert whole_lines(prefix, suffix, 7, 1) == (7, 1)
