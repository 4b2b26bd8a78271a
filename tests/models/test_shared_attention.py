"""Layers that read what an earlier one keeps have no pages of their own, and find its."""

from __future__ import annotations

import pytest
import torch

from cynosure.cache import BLOCK_SIZE, bytes_per_block
from cynosure.models.batch import Batch
from cynosure.models.shared_attention import SharedAttention
from tests.models.brand_oracle import pair_of
from tests.models.decoder_oracle import Pair, gap, in_chunks, logits_of


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pair_of("gemma3n")


def test_what_is_read_again_is_kept_once(pair: Pair) -> None:
    """Of five layers three keep keys and values, in pages and in rows alike."""
    graph = pair.graph
    shared = [isinstance(layer.attention, SharedAttention) for layer in graph.layers]
    assert shared == [False, False, False, True, True]
    numbers = 3 * 2 * (24 + 24) * BLOCK_SIZE
    assert bytes_per_block(graph.cache_shapes, torch.float32) == 4 * numbers
    pages = graph.new_paged_cache(num_blocks=5)
    assert pages.num_bytes == 5 * 4 * numbers
    assert [pages.pages(layer)[0].numel() == 0 for layer in range(5)] == shared
    rows = graph.new_cache(num_seqs=2, max_len=7)
    assert [rows.rows(layer)[0].numel() == 0 for layer in range(5)] == shared


@torch.no_grad()
def test_a_cache_and_none_give_the_same(pair: Pair) -> None:
    prompt = pair.prompts[0]
    assert gap(in_chunks(pair.graph, prompt, [len(prompt)]), logits_of(pair.graph, prompt)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("num_tokens", [1, 31, 32, 33])
def test_pages_end_anywhere(pair: Pair, num_tokens: int) -> None:
    """Before, on and behind the edge of a page, whose other layers would be read as numbers that are not."""
    prompt = (pair.prompts[0] * 2)[:num_tokens]
    cache = pair.graph.new_paged_cache(num_blocks=2)
    for layer in range(5):
        for pages in cache.pages(layer):
            pages.fill_(float("nan"))
    batch = Batch.pack([prompt], block_tables=[[1, 0]])
    logits = pair.graph.logits(pair.graph(batch, cache).hidden)
    assert gap(logits, logits_of(pair.graph, prompt)) < 1e-5


def test_pages_are_written_out_and_read_back(pair: Pair) -> None:
    """What layers that keep nothing add to a page is nothing."""
    dice = torch.Generator().manual_seed(3)
    caches = [pair.graph.new_paged_cache(num_blocks=2) for _ in range(2)]
    for layer in range(5):
        for pages in caches[0].pages(layer):
            pages.copy_(torch.randn(pages.shape, generator=dice))
    content = caches[0].read_page(1)
    assert len(content) == caches[0].page_bytes()
    caches[1].write_page(0, content)
    for layer in range(5):
        for ours, theirs in zip(caches[1].pages(layer), caches[0].pages(layer), strict=True):
            assert torch.equal(ours[0], theirs[1])
