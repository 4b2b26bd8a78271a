"""What a program of kernel calls tells of watched rows is what a second look at them gives."""

from __future__ import annotations

import pytest
import torch

from cynosure.cache import PagedCache
from cynosure.kernels import why_none
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.native.passes import NativePasses
from cynosure.models.watching import Observer, PassWatch, Shares, WatchedRows, shares_of
from tests.models.native.test_passes import ids, native, pages

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

HEADS = ((0, (1, 2)), (2, (0,)))
LENGTHS = (9, 40, 17)


def batch_of() -> Batch:
    prompts = [ids(length, seed) for seed, length in enumerate(LENGTHS)]
    return Batch.pack(prompts, past_lens=[0] * 3, block_tables=[pages(number) for number in range(3)])


def watch_of(last: int = 40) -> PassWatch:
    """The first sequence is not watched, of the second three rows, of the third the last one."""
    second = WatchedRows(
        1, (9, 20, 48), ((0, 0, 3), (1, 3, last), (0, last, 40))[: 2 + (last < 40)], 2, HEADS
    )
    third = WatchedRows(2, (65,), ((2, 0, 1), (1, 1, 17)), 4, ((0, (2,)),))
    return PassWatch((second, third))


def caches(graph: Decoder) -> tuple[PagedCache, PagedCache]:
    return graph.new_paged_cache(64, 8), graph.new_paged_cache(64, 8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
@torch.inference_mode()
def test_both_tell_the_same(name: str, dtype: str) -> None:
    graph, batch, watch = native(name, dtype), batch_of(), watch_of(36)
    ours, theirs = caches(graph)
    passes = NativePasses(graph, ours, "auto")
    assert passes.run(batch, torch.tensor([65]), watch=watch) is not None
    observer = Observer(watch)
    graph(batch, theirs, observer=observer)
    told, expected = shares_of(watch, passes.seen), shares_of(watch, observer.seen)
    assert gap(told, expected) < (1e-5 if dtype == "float32" else 2e-2)
    assert told.mass.shape == (4, 4)
    # The positive control: a segment that ends two keys earlier.
    assert gap(shares_of(watch, passes.seen), shares_of(watch_of(34), again(graph, batch, 34))) > 1e-3


def again(graph: Decoder, batch: Batch, last: int) -> dict:
    observer = Observer(watch_of(last))
    graph(batch, graph.new_paged_cache(64, 8), observer=observer)
    return observer.seen


def gap(ours: Shares, theirs: Shares) -> float:
    return float(abs(ours.mass - theirs.mass).max())


@torch.inference_mode()
def test_the_next_pass_watches_nothing() -> None:
    """And gives the bits that it gives alone."""
    graph, batch = native("llama", "float32"), batch_of()
    passes = NativePasses(graph, graph.new_paged_cache(64, 8), "auto")
    rows = torch.arange(66)
    plain = passes.run(batch, rows)
    assert plain is not None
    plain = plain.clone()
    watched = passes.run(batch, rows, watch=watch_of(36))
    assert watched is not None
    assert torch.equal(watched, plain)
    seen = {layer: one.mass_lse.copy() for layer, one in passes.seen.items()}
    after = passes.run(batch, rows)
    assert after is not None
    assert torch.equal(after, plain)
    assert all((passes.seen[layer].mass_lse == mass).all() for layer, mass in seen.items())


def test_shares_are_averaged_over_a_sequence_s_own_heads() -> None:
    graph, batch = native("llama", "float32"), batch_of()
    both = watch_of(36)
    alone = PassWatch(both.parts[1:])
    with torch.inference_mode():
        passes = NativePasses(graph, graph.new_paged_cache(64, 8), "auto")
        passes.run(batch, torch.tensor([65]), watch=both)
        together = shares_of(both, passes.seen).mass[3]
        passes.run(batch, torch.tensor([65]), watch=alone)
    assert abs(shares_of(alone, passes.seen).mass[0] - together).max() < 1e-6
