"""Whatever a model would write, its names are known ones; what is no name is free."""

from __future__ import annotations

import io
import random
import re
import time
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.core.errors import InputError
from cynosure.engine import constraints
from cynosure.engine.grammar.names import MAX_KEPT_MASKS, KnownNames, NamesMatcher, python_names
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.grammar.token_trie import TokenTrie
from tests.engine.constraint_cases import EOS, definition
from tests.engine.grammar.verbatim_cases import vocabulary
from tests.models.tiny_tokenizers import byte_fallback, byte_level

SIZE = 325
#: What stands in strings and comments, and numbers: no names. The prefix of a string belongs to it.
FREE = re.compile(
    r"""(?:\b[A-Za-z]{1,2})?('''|\"\"\")(?:\\(?:.|\n)|(?!\1)(?:.|\n))*(?:\1|\Z)"""
    r"""|(?:\b[A-Za-z]{1,2})?(['"])(?:\\(?:.|\n)|(?!\2)[^\\\n])*(?:\2|\n|\\?\Z)|\#[^\n]*"""
)


@pytest.fixture(scope="module")
def tokens() -> TokenTrie:
    return TokenTrie(definition())


def matcher(tokens: TokenTrie, names: list[str], before: str = "") -> NamesMatcher:
    return KnownNames.of(constraints.names(names, before=before), tokens).matcher()


def may_be_written(tokens: TokenTrie, names: list[str], code: str, before: str = "") -> bool:
    """Whether each token is allowed, and the end behind them."""
    found = matcher(tokens, names, before)
    for token_id in byte_level().encode(code).ids:
        if not found.allowed(SIZE)[token_id]:
            return False
        found.accept(token_id)
    return bool(found.allowed(SIZE)[EOS])


@pytest.mark.parametrize(
    "code",
    [
        "star.centre(pole)",
        "return star",
        "star = pole + 1_000 * 0xFF - 1.5e-3j",
        "x",
        "print(len(star), 'any words', \"it's\")",
        "# words, words\nstar",
        '"""many\nwords"""\nstar',
        "star = '' + \"\" + ''",
        "rb'a\\'b' + f\"{anything}\"",
        "star[2:-1] @ {**pole}",
        "if star is not None: pass",
        "größe",
        "star.append(pole).items()",
        "",
        " \n",
    ],
)
def test_known_names_may_be_written(tokens: TokenTrie, code: str) -> None:
    assert may_be_written(tokens, ["star", "centre", "pole", "x", "größe"], code)


@pytest.mark.parametrize(
    "code",
    [
        "stars",
        "sta",
        "star.moon",
        "star moon",
        "printer",
        "star = 'a' + moon",
        "#a\nmoon",
        "star('a')moon",
        "'''a'''moon",
        "gröss",
        "zz'a'",
        "größen",
        "1 + moon",
        "''moon",
    ],
)
def test_others_may_not(tokens: TokenTrie, code: str) -> None:
    assert not may_be_written(tokens, ["star", "centre", "pole", "x", "größe"], code)


@pytest.mark.parametrize(
    ("before", "code", "expected"),
    [
        ("sky.st", "ar", True),
        ("sky.st", "ars", False),
        ("sky.st", "", False),
        ("sky.star", "", True),
        ("sky.star", "(", True),
        ("x = 'a", "ny words", True),
        ("x = 'a", " ' + star", True),
        ("x = 'a", "' + moon", False),
        ('"""', "moon", True),
        ("# ", "moon", True),
        ("# ", "moon\nmoon", False),
        ("def Qo", "on(star)", True),
        ("def Qo", "on(moon)", False),
        ("0x", "FF", True),
        ("r", "'moon'", True),
    ],
)
def test_an_answer_goes_on_from_what_stands_before_it(
    tokens: TokenTrie, before: str, code: str, expected: bool
) -> None:
    assert may_be_written(tokens, ["star"], code, before) == expected


def written(found: NamesMatcher, tokens: TokenTrie, dice: random.Random, num_tokens: int) -> str:
    """Any tokens that are allowed, until the answer may end."""
    code = b""
    for number in range(num_tokens + 300):
        mask = found.allowed(tokens.size)
        if number >= num_tokens and mask[EOS]:
            return code.decode(errors="replace")
        choices = [token for token in mask.nonzero()[:, 0].tolist() if token != EOS]
        assert choices, f"nothing can follow {code!r}"
        token_id = dice.choice(choices)
        code += tokens.bytes_of(token_id)
        found.accept(token_id)
    raise AssertionError(f"no end came: {code!r}")


def names_in(code: str) -> set[str]:
    """Names by an expression of their own, apart from the one that is followed."""
    bare = FREE.sub(" 0 ", code)
    return {name for name in re.findall(r"(?<![\w\ufffd])[^\W\d]\w*", bare) if name.isidentifier()}


NAMES = st.lists(st.from_regex(r"[a-c_é][a-c_1é]{0,4}", fullmatch=True), max_size=6)
PIECES = st.lists(st.text("abcé1_ '\"#\n\\(.", min_size=1, max_size=5), max_size=20, unique=True)


@settings(max_examples=60, deadline=None)
@given(NAMES, PIECES, st.integers(0, 1 << 30))
def test_every_name_is_known_whatever_the_vocabulary(names: list[str], pieces: list[str], seed: int) -> None:
    # Bytes of half characters make no names that an expression could find.
    ascii_only = vocabulary([*pieces, *map(chr, range(32, 127)), "\n", "é"], has_bytes=False)
    tokens = TokenTrie(ascii_only)
    code = written(KnownNames(tokens, names).matcher(), tokens, random.Random(seed), 30)
    assert names_in(code) <= {*names, *python_names()} | {""}, code


def test_without_the_constraint_names_are_anything(tokens: TokenTrie) -> None:
    """The control for the property above."""
    dice = random.Random(5)
    codes = [
        b"".join(tokens.bytes_of(int(dice.choice(tokens.ids))) for _ in range(30)).decode(errors="replace")
        for _ in range(50)
    ]
    assert sum(names_in(code) <= python_names() for code in codes) < 5


@settings(max_examples=15, deadline=None)
@given(NAMES, PIECES, st.sampled_from(["", "'", '"""x', "#", "a", "zz", "12"]), st.integers(0, 1 << 30))
def test_masks_are_what_single_walks_find(
    names: list[str], pieces: list[str], before: str, seed: int
) -> None:
    """All tokens at once, against each by itself."""
    tokens = TokenTrie(vocabulary(pieces, has_bytes=True))
    known = KnownNames(tokens, names, before)
    state, dice = known.first_state, random.Random(seed)
    for _ in range(6):
        mask = known.mask(state)
        alone = {token for token in tokens.ids.tolist() if known.read(state, tokens.bytes_of(token)) >= 0}
        assert set(mask.nonzero()[0].tolist()) - {EOS} == alone
        state = known.read(state, tokens.bytes_of(dice.choice(sorted(alone))))


def test_real_code_is_allowed_with_its_own_names(tokens: TokenTrie) -> None:
    source = Path(constraints.__file__).read_text()
    names = {
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    }
    known = KnownNames(tokens, names)
    assert known.read(known.first_state, source.encode()) >= 0
    fewer = KnownNames(tokens, names - {"MAX_CHOICES"})
    assert fewer.read(fewer.first_state, source.encode()) < 0


def test_a_name_that_can_not_be_spelled_is_refused_by_name() -> None:
    tokens = TokenTrie(vocabulary([*map(chr, range(32, 127))], has_bytes=False))
    KnownNames(tokens, ["star"])
    with pytest.raises(InputError, match="'größe'"):
        KnownNames(tokens, ["größe"])


def test_a_space_that_the_decoder_drops_parts_no_name() -> None:
    """What the caller reads is `st` and the token's text without its space."""
    raw = byte_fallback()
    raw_tokens = TokenTrie(TokenizerDefinition(raw.to_str(), 330, (EOS,)))
    the = raw.token_to_id("▁the")
    assert KnownNames(raw_tokens, ["statheme"], "sta").matcher().allowed(330)[the]
    assert not KnownNames(raw_tokens, ["sta", "thimble"], "sta").matcher().allowed(330)[the]


def test_a_wrong_token_is_an_error_and_no_crash(tokens: TokenTrie) -> None:
    with pytest.raises(InputError, match="not known"):
        matcher(tokens, ["star"]).accept(byte_level().encode("Q").ids[0])


def test_masks_are_kept_and_not_without_end(tokens: TokenTrie) -> None:
    names = [f"{first}{second}_{third}" for first in "abcdef" for second in "abcdef" for third in "ab"]
    known = KnownNames(tokens, names)
    for name in names:
        for length in range(len(name)):
            known.mask(known.read(known.first_state, name[:length].encode()))
    assert len(known._masks) == MAX_KEPT_MASKS
    start = time.thread_time()
    for _ in range(100):
        known.mask(known.read(known.first_state, names[-1][:-1].encode()))
    assert time.thread_time() - start < 1.0
