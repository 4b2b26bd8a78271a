"""Folding keeps offsets, changes one character at a time, and leaves plain text alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.guard.fold import fold


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("plain 42", "plain 42"),
        ("４１１１", "4111"),
        ("٤١", "41"),
        ("a\u00a0b\u2003c\u3000d", "a b c d"),
        ("4\u200b1\u200d1\ufeff1", "4111"),
        ("co\u00adop", "coop"),
        ("1–2—3‑4", "1-2-3-4"),
        ("𝟒𝟏 𝐀", "41 A"),
        ("1\ufe0f\u20e3", "1"),
        ("ｂｏｂ＠ｘ．ｉｏ", "bob@x.io"),
        ("jürgen 卡", "jürgen 卡"),
    ],
)
def test_look_alikes_become_plain(text: str, plain: str) -> None:
    assert fold(text)[0] == plain


def test_places_lead_back_to_the_characters_that_came() -> None:
    text = "x\u200b\u200by４\u00ad２"
    plain, places = fold(text)
    assert plain == "xy42"
    assert [text[place] for place in places] == ["x", "y", "４", "２"]


@given(st.text(), st.text())
def test_a_fold_does_not_depend_on_its_neighbours(left: str, right: str) -> None:
    """This is what lets a stream be cut anywhere."""
    first, second, whole = fold(left), fold(right), fold(left + right)
    assert whole[0] == first[0] + second[0]
    assert [*whole[1]] == [*first[1], *(len(left) + place for place in second[1])]
