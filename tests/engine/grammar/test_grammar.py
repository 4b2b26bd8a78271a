"""A matcher allows a token exactly where the text that it leads to can still fit."""

from __future__ import annotations

import random
import re
import time

import pytest

from cynosure.core.errors import InputError
from cynosure.engine import constraints
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar import grammar
from cynosure.engine.grammar.grammar import Grammar, GrammarMatcher, Vocabulary, native_text
from cynosure.engine.grammar.process import GrammarCost, TokenizerDefinition
from tests.engine.constraint_cases import EOS, VOCAB, definition
from tests.models.tiny_tokenizers import byte_fallback, byte_level, word_piece

IM_END = 2


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(definition((EOS, IM_END)))


def compiled(vocabulary: Vocabulary, constraint: Constraint) -> Grammar:
    return Grammar(vocabulary, native_text(constraint), GrammarCost(0.0, 0))


def allowed(matcher: GrammarMatcher) -> set[int]:
    mask = matcher.allowed(VOCAB)
    assert mask.shape == (VOCAB,)
    return set(mask.nonzero()[:, 0].tolist())


def spelling(text: str) -> list[int]:
    """Token ids, none of which crosses the border of a character."""
    if text.isascii():
        return byte_level().encode(text).ids
    return [token_id for character in text for token_id in byte_level().encode(character).ids]


def follow(matcher: GrammarMatcher, token_ids: list[int]) -> None:
    for token_id in token_ids:
        assert token_id in allowed(matcher)
        matcher.accept(token_id)


def test_exactly_the_tokens_that_can_go_on_are_allowed(vocabulary: Vocabulary) -> None:
    """Against every token of the vocabulary, in a language that can be listed."""
    words = [f"{article}{noun}!" for article in ("", "the ") for noun in ("sea", "star", "stars", "star the")]
    prefixes = {word[:length] for word in words for length in range(len(word) + 1)}
    texts = {token: byte_level().decode([token]) for token in range(3, VOCAB - 5)}
    pattern = "(the )?(sea|star(s| the)?)!"
    assert all(re.fullmatch(pattern, word) for word in words)
    for word in words:
        matcher, so_far = GrammarMatcher(compiled(vocabulary, constraints.regex(pattern))), ""
        for token_id in spelling(word):
            expected = {token for token, text in texts.items() if text and so_far + text in prefixes}
            assert allowed(matcher) == expected
            assert token_id in expected
            matcher.accept(token_id)
            so_far += texts[token_id]
        assert matcher.is_complete


def test_end_tokens_are_allowed_exactly_where_the_answer_may_end(vocabulary: Vocabulary) -> None:
    matcher = GrammarMatcher(compiled(vocabulary, constraints.regex("ab*")))
    assert not allowed(matcher) & {EOS, IM_END}
    for token_id in spelling("abb"):
        matcher.accept(token_id)
        assert allowed(matcher) >= {EOS, IM_END}
        assert not matcher.is_complete


@pytest.mark.parametrize(
    "text", ['a"b\\c', "line\nnew", "ü🙂 東京", "/x/", "\x00\x07", " lead", "it's", "{}|.*"]
)
def test_a_choice_is_taken_word_for_word(vocabulary: Vocabulary, text: str) -> None:
    found = compiled(vocabulary, constraints.choice([text, f"{text}, too"]))
    matcher = GrammarMatcher(found)
    for token_id in spelling(text):
        assert token_id in allowed(matcher)
        matcher.accept(token_id)
    assert EOS in allowed(matcher)
    for token_id in spelling(", too"):
        assert not matcher.is_complete
        matcher.accept(token_id)
    assert matcher.is_complete


def test_a_wrong_token_is_an_error_and_no_crash(vocabulary: Vocabulary) -> None:
    matcher = GrammarMatcher(compiled(vocabulary, constraints.regex("ab")))
    with pytest.raises(InputError, match="can't be followed"):
        matcher.accept(spelling("z")[0])
    assert not matcher.is_complete


def test_white_space_in_json_comes_to_an_end(vocabulary: Vocabulary) -> None:
    matcher = GrammarMatcher(compiled(vocabulary, constraints.json_object()))
    space = spelling(" ")[0]
    matcher.accept(spelling("{")[0])
    count = 0
    while space in allowed(matcher):
        matcher.accept(space)
        count += 1
        assert count < 50, "white space may go on forever"
    assert count == 20


def test_matchers_of_one_grammar_know_nothing_of_each_other(vocabulary: Vocabulary) -> None:
    found = compiled(vocabulary, constraints.regex("ab|cd"))
    one, other = GrammarMatcher(found), GrammarMatcher(found)
    one.accept(spelling("a")[0])
    assert allowed(one) == set(spelling("b"))
    assert allowed(other) == {spelling("a")[0], spelling("c")[0]}


#: Counts letters and digits of any script, so that states hardly repeat.
GROWING = constraints.regex(r"(\p{L}{1,1000}\p{N}{1,1000}){1,200}")


def test_a_full_lexer_is_made_anew_and_the_others_go_on(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "PARSER_LIMITS", {"max_lexer_states": 2000, "verbose_errors": False})
    found = compiled(vocabulary, GROWING)
    dice = random.Random(1)
    matchers: list[tuple[GrammarMatcher, list[int]]] = []
    for _ in range(24):
        matcher, taken = GrammarMatcher(found), []
        for _ in range(25):
            taken.append(dice.choice(sorted(allowed(matcher) - {EOS, IM_END})))
            matcher.accept(taken[-1])
        matchers.append((matcher, taken))
    assert found.generation > 0, "the lexer was never full: the test shows nothing"
    for matcher, taken in matchers:
        alone = GrammarMatcher(compiled(vocabulary, GROWING))
        for token_id in taken:
            alone.accept(token_id)
        assert allowed(matcher) == allowed(alone)


def test_what_is_slow_to_compile_is_not_made_anew(vocabulary: Vocabulary) -> None:
    slow = Grammar(vocabulary, native_text(GROWING), GrammarCost(1.0, 0))
    assert not slow.renew(0)
    assert compiled(vocabulary, GROWING).renew(0)


def test_a_mask_that_takes_too_long_fails(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = GrammarMatcher(
        compiled(vocabulary, constraints.grammar('start: s\ns: s s | s s s | "a" | /[a-z]/'))
    )
    ticks = iter(range(100))
    monkeypatch.setattr(time, "thread_time", lambda: 0.2 * next(ticks))
    with pytest.raises(InputError, match=r"0\.20 s for one token"):
        allowed(matcher)


def test_an_ambiguous_grammar_ends_its_own_request(vocabulary: Vocabulary) -> None:
    matcher = GrammarMatcher(
        compiled(vocabulary, constraints.grammar('start: s\ns: s s | s s s | "a" | /[a-z]/'))
    )
    start = time.thread_time()
    with pytest.raises(InputError, match="Make it"):
        follow(matcher, spelling("a") * 1000)
    assert time.thread_time() - start < 20


def test_byte_fallback_spells_what_it_has_no_piece_for() -> None:
    raw = byte_fallback()
    vocabulary = Vocabulary(TokenizerDefinition(raw.to_str(), 310, (2,)))
    matcher = GrammarMatcher(compiled(vocabulary, constraints.choice(["東京!"])))
    taken = []
    while not matcher.is_complete:
        taken.append(matcher.allowed(305).nonzero()[0, 0].item())
        matcher.accept(taken[-1])
    assert raw.decode(taken) == "東京!"


def test_a_tokenizer_that_spells_no_bytes_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"can't be constrained.*WordPiece"):
        Vocabulary(TokenizerDefinition(word_piece().to_str(), 200, ()))
