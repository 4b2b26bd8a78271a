"""Memory is shared out as stated, and only who is idle goes, the least recently used first."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cynosure.core.errors import ModelTooLarge
from cynosure.engine.pool.budget import Held, Need, cache_bytes, cache_shares, victims

MIB = 1 << 20


def need(name: str, weights: int, least: int = 0, most: int = 0, is_pinned: bool = False) -> Need:
    return Need(name, weights * MIB, least * MIB, most * MIB, is_pinned)


def shares(needs: list[Need], memory: int) -> dict[str, float]:
    return {name: share / MIB for name, share in cache_shares(needs, memory * MIB).items()}


def test_what_all_weights_leave_is_shared_evenly_up_to_the_most() -> None:
    needs = [need("a", 100, 10, 1000), need("b", 200, 10, 1000), need("e", 50)]
    assert shares(needs, 500) == {"a": 75, "b": 75, "e": 0}
    assert shares(needs, 5000) == {"a": 1000, "b": 1000, "e": 0}


def test_models_that_take_turns_leave_half_to_their_neighbours() -> None:
    needs = [need("a", 300, 10, 1000), need("b", 400, 10, 1000)]
    assert shares(needs, 500) == {"a": 10 + 95, "b": 10 + 45}


def test_a_model_that_never_fits_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelTooLarge, match=r"'big'.*500\.0 MiB.*20\.0 MiB.*limit for all models is 510\.0"):
        shares([need("small", 10), need("big", 500, 20, 100)], 510)
    with pytest.raises(ModelTooLarge, match=r"'b'.*300\.0 MiB of which pinned"):
        shares([need("a", 300, is_pinned=True), need("b", 300)], 500)
    assert shares([need("a", 300), need("b", 300)], 500) == {"a": 0, "b": 0}


NEEDS = st.lists(
    st.builds(
        lambda weights, least, more, is_pinned: (weights, least, least + more, is_pinned),
        st.integers(1, 100),
        st.integers(0, 20),
        st.integers(0, 200),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(NEEDS, st.integers(1, 800))
def test_every_model_can_be_loaded_beside_the_pinned_ones(
    rows: list[tuple[int, int, int, bool]], memory: int
) -> None:
    needs = [need(str(index), *row) for index, row in enumerate(rows)]
    try:
        found = cache_shares(needs, memory * MIB)
    except ModelTooLarge:
        assume(False)
        return
    pinned = sum(one.weight_bytes + found[one.name] for one in needs if one.is_pinned)
    for one in needs:
        assert one.min_cache_bytes <= found[one.name] <= one.max_cache_bytes
        beside = pinned if not one.is_pinned else pinned - one.weight_bytes - found[one.name]
        assert beside + one.weight_bytes + found[one.name] <= memory * MIB


def test_the_cache_holds_a_sequence_at_least() -> None:
    assert cache_bytes(100, 8, None, None, 10**9) == (204_800, 10**9)
    assert cache_bytes(100, 8, 20, None, 10**9) == (2400, 10**9)
    assert cache_bytes(100, 8, None, None, 1000) == (1000, 1000)
    assert cache_bytes(100, 8, None, 5000, 10**9) == (5000, 5000)
    assert cache_bytes(0, 8, None, 5000, 10**9) == (0, 0)
    assert cache_bytes(0, 8, None, None, 10**9, 700) == (700, 10**9)
    assert cache_bytes(100, 8, 20, None, 10**9, 700) == (3100, 10**9)
    assert cache_bytes(0, 8, None, 5000, 10**9, 700) == (5000, 5000)


def test_only_as_many_idle_ones_go_as_are_needed_oldest_first() -> None:
    held = [Held("new", 30, True, 9.0), Held("old", 20, True, 1.0), Held("busy", 40, False, 0.0)]
    assert victims(held, 10, 100) == ()
    assert victims(held, 30, 100) == ("old",)
    assert victims(held, 50, 100) == ("old", "new")
    assert victims(held, 61, 100) is None
    assert victims([], 100, 100) == ()
