from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.cache import page_counts
from cynosure.core.errors import InputError
from cynosure.engine import cache_memory
from cynosure.engine.cache_memory import limits_of, open_pages, usage_of
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from tests.engine.engine_cases import SMALL
from tests.models.decoder_oracle import pair_of


@pytest.fixture(scope="module")
def gemma() -> Decoder:
    return pair_of("gemma2").graph


def test_the_pages_fill_the_memory_and_do_not_pass_it(gemma: Decoder) -> None:
    cache, tree = open_pages(gemma, SMALL, "tiny")
    (window,) = tree.pool.windows
    assert SMALL.kv_cache_bytes - cache.page_bytes() < cache.num_bytes <= SMALL.kv_cache_bytes
    assert cache.windows == (window,)
    assert cache.num_blocks == tree.pool.num_blocks


@pytest.mark.parametrize(
    ("changes", "max_step"),
    [({}, 16), ({"num_speculative_tokens": 8}, 16), ({"num_speculative_tokens": 40}, 41)],
)
def test_a_sequence_holds_what_its_largest_step_needs(
    gemma: Decoder, changes: dict[str, int], max_step: int
) -> None:
    settings = replace(SMALL, **changes)  # type: ignore[arg-type]
    _, tree = open_pages(gemma, settings, "tiny")
    assert tree.pool.windows[0].max_held == -(-(9 + max_step - 2) // SMALL.block_size) + 1


def test_limits_and_usage_follow_the_fullest_pool(gemma: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = page_counts(1 << 12, (), gemma.dtype, cache_memory.PageNeeds(8, 128, 1, 8))
    assert counts.windows == {}
    monkeypatch.setattr(
        cache_memory, "page_counts", lambda *_: replace(counts, num_blocks=20, windows={9: 5})
    )
    _, tree = open_pages(gemma, SMALL, "tiny")
    (window,) = tree.pool.windows
    assert usage_of(tree.pool) == 0.0
    assert tree.pool.allocate(10)
    assert usage_of(tree.pool) == 0.5
    assert window.reserve(3)
    for block in (1, 2, 3):
        window.claim(block)
    assert usage_of(tree.pool) == 0.6
    (limits,) = limits_of(SMALL, tree.pool).windows
    assert (limits.max_held, limits.num_pages, limits.num_free) == (window.max_held, 5, 2)


def test_a_memory_without_a_page_is_refused(gemma: Decoder) -> None:
    with pytest.raises(
        InputError, match="kv_cache_bytes is 9, which does not hold one page of 8 tokens of tiny"
    ):
        open_pages(gemma, EngineSettings(kv_cache_bytes=9, block_size=8), "tiny")
