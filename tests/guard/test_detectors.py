"""Each detector finds what it is for, whole and nothing more, and leaves alone what looks like it."""

from __future__ import annotations

import itertools

import pytest

from cynosure.guard import Action, Kind, Rules, check
from cynosure.guard.cards import issuer_of
from cynosure.guard.digits import passes_luhn, passes_mod_97
from cynosure.guard.fold import fold
from cynosure.guard.policy import settle_overlaps
from cynosure.guard.scan import DETECTORS
from evals.guard import read_cases
from tests.guard import cases

REDACT = Rules.every(Action.REDACT)


def found(text: str) -> list[tuple[str, str]]:
    return [(f.kind.value, text[f.start : f.end]) for f in check(text, REDACT).findings]


@pytest.mark.parametrize("number", ["4111111111111111", "378282246310005", "30569309025904", "79927398713"])
def test_luhn_knows_a_wrong_digit_and_most_swaps(number: str) -> None:
    assert passes_luhn(number)
    for place, digit in itertools.product(range(len(number)), "0123456789"):
        if number[place] != digit:
            assert not passes_luhn(number[:place] + digit + number[place + 1 :])


def test_mod_97_knows_wrong_digits_and_swaps() -> None:
    iban = cases.IBAN.replace(" ", "")
    assert passes_mod_97(iban)
    for place in range(4, len(iban) - 1):
        swapped = iban[:place] + iban[place + 1] + iban[place] + iban[place + 2 :]
        assert swapped == iban or not passes_mod_97(swapped)


@pytest.mark.parametrize(
    ("digits", "issuer"),
    [
        ("4111111111111111", "visa"),
        ("2720990000000007", "mastercard"),
        ("2721000000000000", None),
        ("378282246310005", "amex"),
        ("6011000990139424", "discover"),
        ("6240000000000000", "unionpay"),
        ("411111111111111", None),
        ("9111111111111111", None),
    ],
)
def test_an_issuer_has_a_range_and_lengths(digits: str, issuer: str | None) -> None:
    assert issuer_of(digits) == issuer


@pytest.mark.parametrize(
    "written",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "3782 822463 10005",
        "5 5 5 5 5 5 5 5 5 5 5 5 4 4 4 4",
        "４１１１　１１１１　１１１１　１１１１",
        "4111\u200b1111\u200b1111\u200b1111",
        "4\u20601\u20601\u20601111111111111",
    ],
)
@pytest.mark.parametrize("around", ["{}", "card {}.", "卡{}，", "({})", "Order 1234 {} ok", "n={}&x=1"])
def test_cards_are_found_however_they_are_written(written: str, around: str) -> None:
    assert found(around.format(written)) == [("card", written)]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "0.4111111111111111",
        "1,4111111111111111",
        "ab4111111111111111cd",
        "41111111111111111111",
        "4111 1111\n1111 1111",
        "4000 4100 4200 4300 4400 4500 4600",
        "1700000000000000",
    ],
)
def test_other_long_numbers_are_no_cards(text: str) -> None:
    assert "card" not in [kind for kind, _ in found(text)]


@pytest.mark.parametrize(
    "written",
    [cases.IBAN, "DE89370400440532013000", "de89 3704 0044 0532 0130 00", "GB82-WEST-1234-5698-7654-32"],
)
def test_ibans_are_found_as_they_are_written(written: str) -> None:
    assert found(f"pay {written} and go") == [("iban", written)]


@pytest.mark.parametrize(
    "text",
    [
        "DE88 3704 0044 0532 0130 00",
        "DE89 3704 0044 0532 0130 0",
        "XX89 3704 0044 0532 0130 00",
        "xDE89370400440532013000",
    ],
)
def test_wrong_account_numbers_are_left(text: str) -> None:
    assert "iban" not in [kind for kind, _ in found(text)]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("to ada.l+x@sub.example.co.uk.", "ada.l+x@sub.example.co.uk"),
        ("<o'brien@example.ie>", "o'brien@example.ie"),
        ("'bob@example.org'", "bob@example.org"),
        ("jürgen@müller.de", "jürgen@müller.de"),
        ("mailto:x@y.io?z", "x@y.io"),
    ],
)
def test_addresses_are_found_whole(text: str, address: str) -> None:
    assert found(text) == [("email", address)]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png",
        "git@github.com:o/r.git",
        "a@b",
        "@app.get",
        "pkg@1.2.3",
        "@u@mastodon.social",
        "https://u@h.io/",
    ],
)
def test_other_at_signs_are_no_addresses(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "number",
    [
        "+49 30 901820",
        "+1 (415) 555-2671",
        "(212) 555-0187",
        "415-555-2671",
        "020 7946 0958",
        "01 23 45 67 89",
        "0049 30 901820",
    ],
)
def test_phones_are_found_in_common_forms(number: str) -> None:
    assert found(f"call {number} now") == [("phone", number)]


def test_a_cue_makes_plain_digits_a_phone() -> None:
    assert found("phone: 5552671234") == [("phone", "5552671234")]
    assert found("order: 5552671234") == []


def test_a_number_ends_where_its_plan_ends() -> None:
    text = f"+1 415 555 2671 {cases.PLAIN_CARD}"
    assert found(text) == [("phone", "+1 415 555 2671"), ("card", cases.PLAIN_CARD)]


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 10:30:00",
        "01/02/2024 10",
        "15.01.2024 1030",
        "INV-030-1234567",
        "10.0.12.255",
        "078-05-1120",
        "02110-1301",
        "(2019) 123 4567",
        "978-3-16-148410-0",
        "01 02 03 04 05 06",
        "x + 1234567890",
        "+999 123 4567",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_dates_and_ids_are_no_phones(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize("secret", [cases.GITHUB, cases.AWS_ID, cases.OPENAI, cases.JWT, cases.private_key()])
@pytest.mark.parametrize("around", ["{}", "see {} there", 'key="{}"', "密{}。"])
def test_secrets_are_found_by_shape(secret: str, around: str) -> None:
    assert found(around.format(secret)) == [("secret", secret)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("password = 'Tr0ub4dor&3'", "Tr0ub4dor&3"),
        ('{"client_secret": "a8Kd03mQpLx72Nv5Tz91"}', "a8Kd03mQpLx72Nv5Tz91"),
        ("https://app:s3cr3tPa55@db.internal/x", "s3cr3tPa55"),
        ("Authorization: Bearer a8Kd03mQpLx72Nv5Tz91", "a8Kd03mQpLx72Nv5Tz91"),
        ("x=1&api_key=a8Kd03mQpLx72Nv5Tz91&y=2", "a8Kd03mQpLx72Nv5Tz91"),
    ],
)
def test_secrets_are_found_by_their_name(text: str, value: str) -> None:
    assert found(text) == [("secret", value)]


@pytest.mark.parametrize(
    "text",
    [
        "password: required",
        "token = tokenizer.encode(text)",
        "api_key = os.environ['API_KEY']",
        "secret_key = ${SECRET_KEY}",
        "api_key=" + "x" * 24,
        "max_tokens = 4096",
        "sk-learn-contrib-imbalanced-learn",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN RSA PRIVATE KEY----- is how a key starts",
        "sha256 " + "0123456789abcdef" * 4,
    ],
)
def test_what_stands_for_a_secret_is_none(text: str) -> None:
    assert found(text) == []


def test_a_key_that_breaks_off_is_found_as_far_as_it_goes() -> None:
    text = cases.private_key().rsplit("\n", 2)[0]
    assert found(f"{text}\n\nThat was it.") == [("secret", text)]


def test_runs_lose_nothing_that_the_detectors_find_in_the_whole_text() -> None:
    """Runs only make it fast and streamable; where they are cut wrongly, a label's finding differs here."""
    compared = 0
    for case in read_cases():
        plain, places = fold(case.text)
        spans = [span for detector in DETECTORS for span in detector(plain, 0)]
        whole = settle_overlaps(spans, REDACT.by_kind())
        placed = [(f.kind, places[f.start], places[f.end - 1] + 1) for f in whole]
        assert [(f.kind, f.start, f.end) for f in check(case.text, REDACT).findings] == placed, case.id
        compared += len(placed)
    assert compared > 100


def test_every_kind_has_labelled_texts_and_texts_without() -> None:
    labelled = read_cases()
    assert len(labelled) >= 150
    for split in ("dev", "heldout"):
        chosen = [case for case in labelled if case.split == split]
        assert {kind for case in chosen for kind, _, _ in case.wanted} == {kind.value for kind in Kind}
        assert sum(not case.wanted for case in chosen) >= 40
