"""Whatever a model would say, its answer is quotes of the given texts, and every quote can be said."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.core.errors import InputError
from cynosure.engine.grammar import verbatim as module
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.grammar.quotes import quotes_in
from cynosure.engine.grammar.token_trie import TokenTrie
from cynosure.engine.grammar.verbatim import Verbatim
from tests.engine.constraint_cases import definition
from tests.engine.grammar.verbatim_cases import EOS, Plain, verbatim, vocabulary
from tests.models.tiny_tokenizers import byte_fallback, byte_level, unigram

#: Few letters, so that what is drawn repeats itself; two bytes, three and four; line breaks.
TEXT = st.text(st.sampled_from("ab \né東🙂."), min_size=1, max_size=14)
TEXTS = st.lists(TEXT, min_size=1, max_size=3)
PIECES = st.lists(st.text(st.sampled_from("ab \né東🙂."), min_size=1, max_size=4), max_size=14, unique=True)
SEEDS = st.integers(0, 1 << 30)


def allowed_texts(found: Verbatim, mask) -> set[bytes]:  # noqa: ANN001
    return {found.tokens.bytes_of(token_id) for token_id in mask.nonzero()[:, 0].tolist() if token_id != EOS}


def can_be_quoted(texts: Sequence[str], min_chars: int) -> bool:
    return Plain(texts, min_chars).comes_to_end


@settings(max_examples=60, deadline=None)
@given(TEXTS, PIECES, st.integers(1, 4), SEEDS)
def test_exactly_the_tokens_that_can_go_on_are_allowed(
    texts: list[str], pieces: list[str], min_chars: int, seed: int
) -> None:
    """Against every token, where each byte has one of its own."""
    if not can_be_quoted(texts, min_chars):
        with pytest.raises(InputError, match="no text has"):
            verbatim(vocabulary(pieces, has_bytes=True), texts, min_chars)
        return
    found = verbatim(vocabulary(pieces, has_bytes=True), texts, min_chars)
    matcher, plain, dice = found.matcher(), Plain(texts, min_chars), random.Random(seed)
    spelled = set(found.tokens.strings)
    for _ in range(8):
        mask = matcher.allowed(found.tokens.size)
        expected = {text for text in spelled if plain.after(text).comes_to_end}
        assert allowed_texts(found, mask) == expected
        assert bool(mask[EOS]) == plain.may_end
        assert matcher.is_complete == (plain.may_end and not expected)
        chosen = dice.choice([token for token in mask.nonzero()[:, 0].tolist() if token != EOS] or [EOS])
        if chosen == EOS:
            break
        matcher.accept(chosen)
        plain.read(found.tokens.bytes_of(chosen))


def walk(found: Verbatim, dice: random.Random, num_tokens: int) -> bytes:
    """Any tokens that are allowed, until the answer may end; it must come to that."""
    matcher, written = found.matcher(), b""
    for number in range(num_tokens + 200):
        mask = matcher.allowed(found.tokens.size)
        choices = mask.nonzero()[:, 0].tolist()
        assert choices, f"nothing can follow {written!r}"
        if choices == [EOS] or (number >= num_tokens and mask[EOS]):
            return written
        chosen = dice.choice([token_id for token_id in choices if token_id != EOS])
        written += found.tokens.bytes_of(chosen)
        matcher.accept(chosen)
    raise AssertionError(f"no end came: {written!r}")


def assert_is_quotes(answer: str, texts: Sequence[str], min_chars: int) -> None:
    quotes = quotes_in(answer, texts, min_chars=min_chars)
    assert "\n".join(answer[quote.start : quote.end] for quote in quotes) == answer
    for quote in quotes:
        said = answer[quote.start : quote.end]
        assert texts[quote.text][quote.source_start : quote.source_end] == said
        assert len(said) >= min_chars


@settings(max_examples=80, deadline=None)
@given(TEXTS, PIECES, st.booleans(), st.integers(1, 3), SEEDS)
def test_every_quote_is_verbatim_whatever_the_vocabulary(
    texts: list[str], pieces: list[str], has_bytes: bool, min_chars: int, seed: int
) -> None:
    try:
        found = verbatim(vocabulary(pieces, has_bytes=has_bytes), texts, min_chars)
    except InputError:
        assert not has_bytes or not can_be_quoted(texts, min_chars)
        return
    dice = random.Random(seed)
    for _ in range(3):
        assert_is_quotes(walk(found, dice, dice.randrange(12)).decode(), texts, min_chars)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3), SEEDS)
def test_any_unicode_can_be_quoted(texts: list[str], seed: int) -> None:
    if not can_be_quoted(texts, 1):
        return
    found = verbatim(definition(), texts)
    assert_is_quotes(walk(found, random.Random(seed), 9).decode(), texts, 1)


def test_without_the_constraint_a_random_model_quotes_nothing() -> None:
    """The control: what the properties above look for is violated at once."""
    texts, dice = ["the centre of attention", "a sailor steers by the pole star"], random.Random(3)
    tokens = TokenTrie(definition())
    num_verbatim = 0
    for _ in range(200):
        said = b"".join(tokens.bytes_of(int(dice.choice(tokens.ids))) for _ in range(4)).decode(
            errors="replace"
        )
        quotes = quotes_in(said, texts)
        num_verbatim += "\n".join(said[quote.start : quote.end] for quote in quotes) == said
    assert num_verbatim < 10


@pytest.mark.parametrize("make", [byte_level, byte_fallback, unigram])
def test_a_whole_text_can_be_said_by_every_kind_of_vocabulary(make) -> None:  # noqa: ANN001
    raw = make()
    text = "a sailor steers by the pole star"
    found = verbatim(TokenizerDefinition(raw.to_str(), 330, (EOS,)), [f"x {text} y"])
    matcher = found.matcher()
    for token_id in raw.encode(text, add_special_tokens=False).ids:
        assert matcher.allowed(330)[token_id]
        matcher.accept(token_id)
    assert matcher.allowed(330)[EOS]


@pytest.mark.parametrize("make", [byte_fallback, unigram])
def test_a_space_that_the_decoder_drops_need_not_stand_in_the_text(make) -> None:  # noqa: ANN001
    raw = make()
    the = raw.token_to_id("▁the")
    found = verbatim(TokenizerDefinition(raw.to_str(), 330, (EOS,)), ["the star", "or the other"])
    assert found.matcher().allowed(330)[the]
    assert raw.decode([the]) == "the"
    later = found.matcher()
    later.accept(raw.token_to_id("o"))
    later.accept(raw.token_to_id("r"))
    assert later.allowed(330)[the]
    only_first = verbatim(TokenizerDefinition(raw.to_str(), 330, (EOS,)), ["or", "the star"]).matcher()
    only_first.accept(raw.token_to_id("o"))
    only_first.accept(raw.token_to_id("r"))
    assert not only_first.allowed(330)[the]
    alone = found.matcher()
    alone.accept(raw.token_to_id("▁"))
    assert alone.allowed(330)[raw.token_to_id("t")]
    assert not alone.allowed(330)[EOS]


def test_a_line_break_is_quoted_or_stands_between_quotes() -> None:
    found = verbatim(definition(), ["one\ntwo", "three"])
    for answer, may_end in [
        ("one\ntwo", True),
        ("two\none", True),
        ("one\nthree\none\ntwo", True),
        ("one\n", False),
        ("ne\nthr", True),
    ]:
        matcher = found.matcher()
        for token_id in byte_level().encode(answer).ids:
            assert matcher.allowed(325)[token_id], answer
            matcher.accept(token_id)
        assert bool(matcher.allowed(325)[EOS]) == may_end, answer
    matcher = found.matcher()
    matcher.accept(byte_level().encode("e").ids[0])
    [line_break] = byte_level().encode("\n").ids
    matcher.accept(line_break)
    assert not matcher.allowed(325)[line_break], "no empty quote, and none that begins with a line break"


def test_a_quote_is_as_long_as_is_asked() -> None:
    found = verbatim(definition(), ["aébcd", "xy"], 3)
    matcher = found.matcher()
    tokens = [[token_id] for token_id in byte_level().encode("aéb").ids]
    assert not matcher.allowed(325)[byte_level().encode("x").ids[0]], "xy is too short"
    for [token_id] in tokens:
        assert not matcher.allowed(325)[EOS]
        matcher.accept(token_id)
    assert matcher.allowed(325)[EOS]


def test_no_token_leads_where_the_vocabulary_can_not_go_on() -> None:
    """Nothing spells `é` alone: whoever began with `a` could not come to three characters."""
    found = verbatim(vocabulary(["a", "aéb", "b"], has_bytes=False), ["aéb aéb"], 3)
    assert allowed_texts(found, found.matcher().allowed(found.tokens.size)) == {"aéb".encode()}
    further = verbatim(vocabulary(["a", "b", "abéd"], has_bytes=False), ["abéd"], 4)
    assert allowed_texts(further, further.matcher().allowed(further.tokens.size)) == {"abéd".encode()}
    shorter = verbatim(vocabulary(["a", "aéb", "b"], has_bytes=False), ["aéb aéb"], 1)
    assert allowed_texts(shorter, shorter.matcher().allowed(found.tokens.size)) == {
        "aéb".encode(),
        b"a",
        b"b",
    }


def test_a_wrong_token_is_an_error_and_no_crash() -> None:
    matcher = verbatim(definition(), ["abc"]).matcher()
    with pytest.raises(InputError, match="can't be followed"):
        matcher.accept(byte_level().encode("z").ids[0])
    with pytest.raises(InputError, match="no text"):
        verbatim(definition(), ["abc"]).matcher().accept(1)


def test_a_mask_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = verbatim(definition(), ["abc"]).matcher()
    ticks = iter(range(100))
    monkeypatch.setattr(module.time, "thread_time", lambda: 0.2 * next(ticks))
    with pytest.raises(InputError, match=r"0\.20 s for one token"):
        matcher.allowed(325)


def test_long_texts_take_no_time_to_follow() -> None:
    """250,000 bytes that repeat themselves: every token is a place in thousands."""
    dice = random.Random(1)
    words = ["the centre", "of attention", "is where", "all eyes", "are fixed", "東京"]
    found = verbatim(definition(), [" ".join(dice.choice(words) for _ in range(24_000))])
    matcher, slowest = found.matcher(), 0.0
    for _ in range(30):
        start = time.thread_time()
        mask = matcher.allowed(325)
        slowest = max(slowest, time.thread_time() - start)
        matcher.accept(dice.choice([token for token in mask.nonzero()[:, 0].tolist() if token != EOS]))
    assert slowest < module.MAX_MASK_SECONDS
