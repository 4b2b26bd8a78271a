"""Check that chance is seeded, fair and the same from everywhere. Knows nothing of other masks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cynosure.attention.grid import Grid
from cynosure.attention.masks import Random
from cynosure.attention.masks.random_blocks import NO_BLOCK, splitmix64
from tests.attention.mask_cases import naive_draws, naive_splitmix64, ordinary_grid

# Published first outputs of the generator seeded with 1234567.
PUBLISHED = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def square(n: int) -> Grid:
    return Grid(torch.arange(n), torch.arange(n), n)


def test_the_hash_is_the_published_one() -> None:
    states = [1234567 + i * 0x9E3779B97F4A7C15 for i in range(5)]
    signed = torch.tensor([(state + 2**63) % 2**64 - 2**63 for state in states])
    assert [value % 2**64 for value in splitmix64(signed).tolist()] == PUBLISHED
    assert [naive_splitmix64(state) for state in states] == PUBLISHED


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_hash_wraps_as_unsigned_words_do(state: int) -> None:
    assert int(splitmix64(torch.tensor([state]))[0]) % 2**64 == naive_splitmix64(state % 2**64)


@given(
    size=st.integers(1, 8),
    num_blocks=st.integers(1, 6),
    seed=st.integers(0, 2**60),
    n=st.integers(1, 60),
    is_causal=st.booleans(),
)
def test_each_query_block_draws_its_count_of_distinct_blocks(
    size: int, num_blocks: int, seed: int, n: int, is_causal: bool
) -> None:
    draws, owner = Random(size, num_blocks, seed, is_causal).draws(square(n))
    all_blocks = -(-n // size)
    assert owner.tolist() == [q // size for q in range(n)]
    for q_block, row in enumerate(draws.tolist()):
        supply = q_block + 1 if is_causal else all_blocks
        drawn = [block for block in row if block != NO_BLOCK]
        assert len(set(drawn)) == len(drawn) == min(num_blocks, supply)
        assert all(0 <= block < supply for block in drawn)
        assert set(drawn) == naive_draws(seed, q_block, num_blocks, supply)


def test_a_seed_gives_the_same_blocks_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    first = Random(4, 2, 11).allowed(square(64))
    torch.manual_seed(2)
    assert torch.equal(Random(4, 2, 11).allowed(square(64)), first)
    assert not torch.equal(Random(4, 2, 12).allowed(square(64)), first)


def test_causal_draws_stay_as_the_sequence_grows() -> None:
    mask, free = Random(4, 2, 5), Random(4, 2, 5, is_causal=False)
    whole = mask.allowed(square(64))
    for n in (1, 4, 5, 33, 63):
        assert torch.equal(mask.allowed(square(n)), whole[:n, :n])
    # The control: draws from all blocks do depend on how many there are.
    assert not torch.equal(free.allowed(square(33)), free.allowed(square(64))[:33, :33])


def test_decode_draws_what_prefill_drew() -> None:
    mask = Random(4, 2, 5)
    whole = mask.allowed(square(50))
    for n in range(1, 51):
        assert torch.equal(mask.allowed(ordinary_grid(1, n))[0], whole[n - 1, :n])


@pytest.mark.parametrize("is_causal", [True, False])
def test_every_block_is_drawn_as_often(is_causal: bool) -> None:
    grid = Grid(torch.tensor([9]), torch.arange(10), 10)
    times = Counter[int]()
    for seed in range(800):
        times.update(Random(1, 3, seed, is_causal).draws(grid)[0][0].tolist())
    # 240 of 800 each; the standard deviation is about 13.
    assert sorted(times) == list(range(10))
    assert max(abs(count - 240) for count in times.values()) < 65


def test_query_blocks_draw_apart() -> None:
    draws, _ = Random(1, 1, 0, is_causal=False).draws(square(1000))
    # 1000 draws from 1000 blocks hit about 632 of them; one draw for all would hit 1.
    assert 580 < len(set(draws[:, 0].tolist())) < 680
