"""Tokens leave as the policy says, however the text is cut, and carry nothing of what is redacted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cynosure.engine.request import TokenLogprob
from cynosure.guard import Action, Rules, check
from cynosure.server.guarded.tokens import CONTENT_FILTER, HIDDEN_LOGPROB, TokenFilter
from cynosure.server.services import ScoredToken, Token
from tests.guard import cases

REDACT, BLOCK = Rules.every(Action.REDACT), Rules.every(Action.BLOCK)
MIXED = Rules(email=Action.BLOCK, phone=Action.ALLOW)
MARK_ID = 100_000
PLANTED = (cases.CARD, cases.IBAN, cases.EMAIL, cases.PHONE, cases.GITHUB, cases.private_key(3))
FILLERS = (" ", "the word", ", ", ".", "\n", "1", "4111 ", "=", "token=", "é", "\u200b", "x" * 600)

texts = st.lists(st.sampled_from(PLANTED + FILLERS), min_size=1, max_size=8).map("".join)


def tokens_of(pieces: Sequence[str], finish: str = "stop") -> list[Token]:
    """One token a piece, each with an id and an alternative that spell it."""
    made = [
        Token(piece, token_id=at, logprob=-1.0, top_logprobs=(TokenLogprob(at, -1.0),))
        for at, piece in enumerate(pieces)
    ]
    return [*made, Token("", finish, 7)]


def cut(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, at = [], 0
    for size in [*sizes, len(text)]:
        pieces.append(text[at : at + size])
        at += size
    return pieces


def given_by(tokens: Sequence[Token], rules: Rules) -> list[Token]:
    screen = TokenFilter(rules, lambda mark: MARK_ID)
    safe: list[Token] = []
    for token in tokens:
        safe += screen.push(token)
        if screen.is_blocked:
            break
    return safe


@settings(max_examples=300)
@given(texts, st.lists(st.integers(0, 7), max_size=60), st.sampled_from([REDACT, BLOCK, MIXED, Rules()]))
@example(cases.CARD, [0, 4, 0, 1, 0], REDACT)
@example(f"a {cases.CARD} b", [1, 30], BLOCK)
@example("token=" + "a1B2" * 300 + " end", [7] * 200, REDACT)
def test_any_cut_gives_what_the_whole_text_would(text: str, sizes: list[int], rules: Rules) -> None:
    pieces = cut(text, sizes)
    decision = check(text, rules)
    safe = given_by(tokens_of(pieces), rules)
    assert "".join(token.text for token in safe) == decision.text
    ends = [token.finish_reason for token in safe if token.finish_reason]
    assert ends == [CONTENT_FILTER if decision.action is Action.BLOCK else "stop"]
    assert safe[-1].finish_reason
    if decision.action is not Action.BLOCK:
        assert sum(token.token_id is not None for token in safe) == len(pieces)
        assert safe[-1].num_cached == 7
    hidden = [found for found in decision.findings if found.action is not Action.ALLOW]
    starts = [sum(map(len, pieces[:at])) for at in range(len(pieces))]
    for token in safe:
        if token.token_id in (None, MARK_ID):
            assert token.logprob in (None, HIDDEN_LOGPROB)
            assert token.top_logprobs == ()
            continue
        # What still has its id has its own text, and touches nothing that is hidden.
        start, piece = starts[token.token_id], pieces[token.token_id]
        assert token.text == piece
        assert not any(found.start < start + len(piece) and start < found.end for found in hidden)


def test_bytes_of_a_hidden_character_are_hidden_with_it() -> None:
    pieces = ["x ", "", "", "４", "111 1111 1111 1111", " y"]
    safe = given_by(tokens_of(pieces), REDACT)
    assert [token.token_id for token in safe] == [0, MARK_ID, MARK_ID, MARK_ID, MARK_ID, 5, None]
    assert "".join(token.text for token in safe) == "x [card] y"


def test_little_is_held_back() -> None:
    screen = TokenFilter(Rules(), lambda mark: MARK_ID)
    words = ["The", " pole", " star", " is", " fixed", "."]
    given_at = [len(screen.push(token)) for token in tokens_of(words)[:-1]]
    assert given_at == [0, 1, 1, 1, 1, 0]


def test_where_nothing_is_changed_nobody_waits_and_findings_are_counted_all_the_same() -> None:
    screen = TokenFilter(Rules.every(Action.ALLOW), lambda mark: MARK_ID)
    tokens = tokens_of(["41", "", "11 1111 1111", " 1111"])
    assert [screen.push(token) for token in tokens] == [[token] for token in tokens]
    assert [found.kind for found in screen.findings] == ["card"]


def test_what_was_said_of_the_prompt_survives_a_block_at_once() -> None:
    scored = (ScoredToken(TokenLogprob(1, -0.5), ()),)
    first = Token(cases.CARD, token_id=3, prompt_logprobs=scored)
    (end,) = given_by([first, Token(" ", token_id=4), Token(", x", token_id=5)], BLOCK)
    assert (end.finish_reason, end.prompt_logprobs, end.text) == (CONTENT_FILTER, scored, "")


def test_what_is_held_comes_out_where_no_end_came() -> None:
    screen = TokenFilter(Rules(), lambda mark: MARK_ID)
    assert screen.push(Token("half a wor", token_id=1)) == []
    assert [token.text for token in screen.flush()] == ["half a wor"]
    screen = TokenFilter(Rules(card=Action.BLOCK), lambda mark: MARK_ID)
    screen.push(Token(f"a {cases.CARD}", token_id=1))
    assert [token.text for token in screen.flush()] == ["a ", ""]


@pytest.mark.parametrize("rules", [REDACT, BLOCK])
def test_the_secret_would_be_seen(rules: Rules) -> None:
    """The positive control: with a policy that allows all, ids and text spell it."""
    pieces = ["my ", *cases.CARD]
    assert cases.CARD not in "".join(token.text for token in given_by(tokens_of(pieces), rules))
    shown = given_by(tokens_of(pieces), Rules.every(Action.ALLOW))
    assert "".join(pieces[token.token_id] for token in shown if token.token_id is not None) == "".join(pieces)
