"""Sentences of a text: what each slices out, and that nothing but white space lies between."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cynosure.insight.sentences import sentence_spans, sentence_starts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two", ["One.", "Two"]),
        ("  One!  \n Two? ", ["One!", "Two?"]),
        ('He said "No." Then left.', ['He said "No."', "Then left."]),
        ("It is 3.14 long", ["It is 3.14 long"]),
        ("the age of x is y . the pet of z is w .", ["the age of x is y .", "the pet of z is w ."]),
        ("一。二。", ["一。", "二。"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_what_sentences_slice_out(text: str, wanted: list[str]) -> None:
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans] == wanted
    between = [text[end:start] for (_, end), (start, _) in pairwise(spans)]
    assert not "".join(between).strip()


def test_starts_cut_without_a_rest() -> None:
    text = "One. Two!\n\nThree"
    starts = sentence_starts(text)
    assert [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)] == [
        "One. ",
        "Two!\n\n",
        "Three",
    ]
