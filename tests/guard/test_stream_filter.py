"""A stream is released as the whole text is redacted, wherever it is cut, and little is held back."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cynosure.guard import MAX_HELD, MAX_VISIBLE, Action, Decision, Rules, StreamFilter, check
from tests.guard import cases

REDACT = Rules.every(Action.REDACT)
MIXED = Rules(
    secret=Action.REDACT, card=Action.BLOCK, iban=Action.ALLOW, email=Action.ALLOW, phone=Action.REDACT
)
SECRET_ALLOWED = Rules(secret=Action.ALLOW, email=Action.REDACT)

PLANTED = (
    cases.CARD, cases.PLAIN_CARD, cases.IBAN, cases.EMAIL, cases.PHONE, cases.GITHUB, cases.AWS_ID, cases.JWT,
    cases.private_key(2), cases.private_key(20), "password = 'Tr0ub4dor&3'",
    "４１１１　１１１１　１１１１　１１１１",
    "4111\u200b1111\u00ad1111\u200b\u200b1111", "https://app:s3cr3tPa55@db.internal", "tel: 030/901820",
)  # fmt: skip
FILLERS = (
    " ", "  ", "\n", ",", ".", "-", "\u200b", "the word", "号", "é", "0", "A", "=", ": ", "@", "-----BEGIN ",
    "-----BEGIN RSA PRIVATE KEY-----\n", "-----END RSA PRIVATE KEY-----", cases.KEY_LINE, "9" * 40, "x" * 300,
    "\u200b" * 300, "\\n", "Bearer ", "token=", "+", "(", "4111 ",
)  # fmt: skip

texts = st.lists(
    st.sampled_from(PLANTED) | st.sampled_from(FILLERS) | st.text(max_size=4), min_size=1, max_size=12
).map("".join)


def streamed(pieces: Iterable[str], rules: Rules) -> Decision:
    stream = StreamFilter(rules)
    released = [stream.push(piece) for piece in pieces]
    released.append(stream.finish())
    return Decision(stream.action, stream.findings, "".join(released))


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=300)
@given(texts, st.lists(st.integers(0, 10_000), max_size=8), st.sampled_from([REDACT, MIXED, SECRET_ALLOWED]))
@example(cases.private_key(20), [], REDACT)
@example("a" * (MAX_VISIBLE - 8) + " " + cases.CARD, [MAX_VISIBLE], REDACT)
@example("4111" + "\u200b" * (MAX_HELD + 10) + "1" * 12, [2, 5000], REDACT)
@example(cases.GITHUB + "a1" * 600 + "\u200b" + "b2" * 20 + " end", [700, 1240], REDACT)
def test_any_cut_releases_what_the_whole_text_would(text: str, places: list[int], rules: Rules) -> None:
    assert streamed(cut(text, places), rules) == check(text, rules)


@settings(max_examples=60)
@given(texts, st.sampled_from([REDACT, MIXED]))
def test_character_by_character_is_no_exception(text: str, rules: Rules) -> None:
    assert streamed(text, rules) == check(text, rules)


@pytest.mark.parametrize(
    "text", ["a@b.co", "+1 415 555 2671", "x 4111111111111111 y", "DE89370400440532013000"]
)
def test_every_way_to_cut_a_short_text_in_three(text: str) -> None:
    whole = check(text, REDACT)
    assert whole.findings
    for first, second in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert streamed(cut(text, [first, second]), REDACT) == whole


@pytest.mark.parametrize("text", ["a@b.co!", "x a@b.io"])
def test_every_way_at_all_to_cut_a_very_short_text(text: str) -> None:
    whole = check(text, REDACT)
    assert whole.findings
    for mask in range(2 ** (len(text) - 1)):
        places = [place + 1 for place in range(len(text) - 1) if mask >> place & 1]
        assert streamed(cut(text, places), REDACT) == whole


def test_a_filter_that_holds_nothing_back_would_be_caught() -> None:
    """The control: redacting piece by piece leaks what a cut falls into."""
    text = f"pay {cases.CARD} now"
    leaks = 0
    for place in range(len(text)):
        pieces = cut(text, [place])
        leaks += "".join(check(piece, REDACT).text for piece in pieces) != check(text, REDACT).text
    assert leaks > 15


def test_prose_is_held_back_by_a_word_and_no_more() -> None:
    stream = StreamFilter(REDACT)
    prose = "The quick brown fox jumps over thirteen lazy dogs, and nobody minds. " * 20
    sent, longest = 0, 0
    for place, char in enumerate(prose, 1):
        sent += len(stream.push(char))
        longest = max(longest, place - sent)
    assert longest <= len("thirteen") + 1


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "4",
        "4 ",
        "4111 ",
        "DE89 ",
        "a@",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "A\n",
        "\u200b",
        "4\u200b",
        "4" + "\u200b" * 20,
    ],
)
def test_no_text_is_held_back_beyond_the_bound(unit: str) -> None:
    stream, sent, given_chars = StreamFilter(Rules.every(Action.ALLOW)), 0, 0
    for _ in range(3 * MAX_HELD // len(unit)):
        sent += len(stream.push(unit))
        given_chars += len(unit)
        assert given_chars - sent <= MAX_HELD
        if "\u200b" not in unit:
            assert given_chars - sent <= MAX_VISIBLE
    assert sent + len(stream.finish()) == given_chars


@pytest.mark.parametrize(
    "secret", [cases.private_key(200), cases.OPENAI + "a1B2" * 3000, cases.JWT + "x9" * 4000]
)
def test_a_secret_longer_than_the_bound_leaks_nothing(secret: str) -> None:
    rng = random.Random(0)
    text = f"before {secret} after"
    decision = streamed(cut(text, [rng.randrange(len(text)) for _ in range(50)]), REDACT)
    assert decision.text == "before [secret] after"
    assert [(f.start, f.end) for f in decision.findings] == [(7, 7 + len(secret))]


def test_a_card_deep_in_a_run_without_spaces_is_found() -> None:
    for lead in range(480, 560):
        text = "a" * lead + "=" + cases.PLAIN_CARD + "=" + "b" * 600
        assert check(text, REDACT).text == text.replace(cases.PLAIN_CARD, "[card]"), lead


def test_a_number_that_goes_on_behind_a_window_is_not_cut_to_a_card() -> None:
    for lead in range(480, 530):
        text = "a" * lead + "=" + cases.PLAIN_CARD + "1111=" + "b" * 600
        assert check(text, REDACT).text == text, lead


@pytest.mark.parametrize("place", [MAX_VISIBLE - 1, MAX_VISIBLE, MAX_VISIBLE + 1])
def test_invisible_characters_in_a_long_secret_do_not_break_it(place: int) -> None:
    secret = cases.OPENAI + "a1B2" * 300
    secret = secret[:place] + "\u200b" * 3 + secret[place:]
    assert streamed([secret, " end"], REDACT).text == "[secret] end"
    assert streamed(f"{secret} end", REDACT) == check(f"{secret} end", REDACT)


def test_a_block_ends_the_stream_before_the_finding() -> None:
    stream = StreamFilter(Rules(card=Action.BLOCK))
    released = stream.push(f"mail {cases.EMAIL}, card {cases.CARD}! more")
    assert stream.is_blocked
    assert released == f"mail {cases.EMAIL}, card "
    assert stream.push("and more") == stream.finish() == ""
    assert stream.action is Action.BLOCK


def test_offsets_are_code_points_of_what_came() -> None:
    text = f"😀 ４１１１\u200b1111\u200b1111\u200b1111 号 {cases.EMAIL}"
    decision = check(text, REDACT)
    card, email = decision.findings
    assert text[card.start : card.end] == "４１１１\u200b1111\u200b1111\u200b1111"
    assert text[email.start : email.end] == cases.EMAIL
    assert decision.text == "😀 [card] 号 [email]"


def test_a_megabyte_made_to_be_slow_is_read_in_time() -> None:
    units = [
        "a", "4 ", "4111 ", "eyJ", "eyJaaaaaaaa.", "a@", "a@a.", "-----BEGIN ", "+1 ", "token=", "x://a:",
        "-----BEGIN RSA PRIVATE KEY-----", "DE89 aaaa ", "4\u200b", "a1-", "01 ", "pass_a1-", "2024-01-15 ",
        "(0", "bearer ", "++", "0049 ",
    ]  # fmt: skip
    share = 1_000_000 // len(units)
    text = "\n".join((unit * share)[:share] for unit in units)
    begun = time.process_time()
    check(text, REDACT)
    assert time.process_time() - begun < 15


@pytest.mark.parametrize("unit", ["4 ", "a@a.", "+1 ", "DE89 aaaa ", "-----BEGIN ", "01 "])
def test_twice_the_text_takes_about_twice_the_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        begun = time.process_time()
        check(text, REDACT)
        return time.process_time() - begun

    assert min(seconds(64_000) for _ in range(2)) < 12 * max(seconds(16_000) for _ in range(2)) + 0.05


PROSE = (
    "The pole star",
    "Bearer",
    " token ",
    ", and. ",
    "basic \n",
    "; ",
    "a",
    "  ",
    "steers.\n\n",
    "x" * 19 + " ",
)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from((*PROSE, *PLANTED)), min_size=1, max_size=14).map("".join),
    st.lists(st.integers(0, 400), max_size=4),
)
@example("send Bearer a1B2c3D4e5F6g7H8 now", [])
@example("my token a1B2c3D4e5F6g7H8i9 here", [9])
def test_prose_that_is_passed_over_hides_nothing(text: str, places: list[int]) -> None:
    """The plain way looks at every run."""
    found = streamed(cut(text, places), REDACT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cynosure.guard.scan.prose_end", lambda text, start: start)
        assert check(text, REDACT) == found
