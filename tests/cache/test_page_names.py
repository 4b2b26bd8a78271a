from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.cache import CacheKey, PageNames

KEY = CacheKey("tenant", "model", "float32")
TOKENS = tuple(range(20))


def names_of(secret: bytes = b"s" * 32, identity: str = "build", block_size: int = 4) -> PageNames:
    return PageNames(secret, identity, block_size)


@pytest.mark.parametrize(("num_tokens", "num_pages"), [(0, 0), (1, 0), (3, 0), (4, 1), (5, 1), (20, 5)])
def test_only_full_pages_have_names(num_tokens: int, num_pages: int) -> None:
    assert len(names_of().pages(KEY, TOKENS[:num_tokens])) == num_pages


def test_a_longer_sequence_begins_with_the_names_of_a_shorter_one() -> None:
    short, long = names_of().pages(KEY, TOKENS[:9]), names_of().pages(KEY, TOKENS)
    assert long[:2] == short
    assert len(set(long)) == 5


def test_a_page_is_named_by_what_came_before_it_too() -> None:
    other = names_of().pages(KEY, (99, *TOKENS[1:]))
    assert not set(other) & set(names_of().pages(KEY, TOKENS))


@pytest.mark.parametrize(
    "other",
    [
        names_of(secret=b"t" * 32).pages(KEY, TOKENS),
        names_of(identity="another build").pages(KEY, TOKENS),
        names_of(block_size=2).pages(KEY, TOKENS),
        names_of().pages(replace(KEY, tenant="other"), TOKENS),
        names_of().pages(replace(KEY, dtype="int8"), TOKENS),
        names_of().pages(replace(KEY, adapter="one"), TOKENS),
    ],
)
def test_whatever_differs_no_name_is_the_same(other: tuple[bytes, ...]) -> None:
    assert not set(other) & set(names_of().pages(KEY, TOKENS))


def test_images_name_their_pages_by_all_their_bits() -> None:
    """What stands in an image's places is longer than a token id; each of its bits counts."""
    digest = (1 << 255) + 5
    one, other = ([*TOKENS[:6], *[-1 - number] * 6, *TOKENS[12:]] for number in (digest, digest ^ (1 << 200)))
    first, second = names_of().pages(KEY, one), names_of().pages(KEY, other)
    assert first == names_of().pages(KEY, one)
    assert first[:1] == second[:1] == names_of().pages(KEY, TOKENS)[:1]
    assert not set(first[1:]) & set(second[1:])


def test_sessions_of_two_tenants_have_two_names() -> None:
    mine = names_of().session(KEY, "talk")
    assert mine == names_of().session(KEY, "talk")
    assert mine != names_of().session(replace(KEY, tenant="other"), "talk")
    assert mine != names_of().session(KEY, "talk 2")
