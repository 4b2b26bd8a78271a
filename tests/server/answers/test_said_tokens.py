"""Tokens get their places in what is said: behind thoughts, before calls, cut by a stop text."""

from __future__ import annotations

import pytest

from cynosure.engine.watch import AttendedTo
from cynosure.insight import PromptPart, PromptSegments
from cynosure.server.answers.continuation import Placed
from cynosure.server.answers.said_tokens import SaidTokens
from cynosure.server.services import Token

SEGMENTS = PromptSegments.of([PromptPart("user:0", "user:0", "user")], [None, 0], [None, None])
ATTENDED = AttendedTo((0.2, 0.0, 0.5, 0.3), 0.0, 1.0, ((0.1, 0.0, 0.2, 0.3),))


def said(spelled: list[str], *chunks: str) -> SaidTokens:
    """An answer whose tokens spell this, and of which that is said."""
    heard, start = SaidTokens(), 0
    for text in spelled:
        heard.add([Placed(Token(text, token_id=1, logprob=-0.5, attended=ATTENDED), start)])
        start += len(text)
    for chunk in chunks:
        heard.hear(chunk)
    return heard


@pytest.mark.parametrize(
    ("spelled", "chunks", "starts"),
    [
        (["Yes", ".", " No", "."], ["Yes. ", "No."], [0, 3, 4, 7]),
        (["Yes", "."], ["Yes. and what a filter gave"], [0, 3]),
        (["Yes", ".", "STOP"], ["Yes."], [0, 3, 4]),
        (["<think>", "Yes?", "</think>", "Yes", "."], ["Yes."], [-19, -12, -8, 0, 3]),
        (["<think>", "Yes.", "</think>", "\n\n", "Yes.", "\n"], ["Yes."], [-21, -14, -10, -2, 0, 4]),
        (["<think>", "Hm", "</think>", "Yes.", "<tool_call>", "{}"], ["Yes."], [-17, -10, -8, 0, 4, 15]),
    ],
)
def test_places(spelled: list[str], chunks: list[str], starts: list[int]) -> None:
    heard = said(spelled, *chunks)
    tokens = heard.tokens(SEGMENTS)
    assert tokens is not None
    assert [token.start for token in tokens] == starts
    assert heard.text == "".join(chunks)


def test_what_can_not_be_placed_is_not_guessed() -> None:
    # Thought twice and said once, with a call behind: it may be any of them.
    assert said(["<think>", "Yes. Yes.", "</think>", "Yes.", "<tool_call>"], "Yes.").tokens(SEGMENTS) is None
    assert said(["Yes."], "No").tokens(SEGMENTS) is None


def test_a_token_keeps_what_it_attended_to() -> None:
    [token] = said(["Yes."], "Yes.").tokens(SEGMENTS) or []
    assert (token.text, token.logprob, token.folds) == ("Yes.", -0.5, ATTENDED.folds)
    assert token.shares is not None
    assert token.shares.masses == (0.5,)
