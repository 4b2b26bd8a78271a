"""The tokens that an indexer chooses are all that is attended to, told and left out alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.attention import Watch
from cynosure.models.batch import Batch
from cynosure.models.watching import Observer, PassWatch, WatchedRows, by_layer, shares_of
from tests.models.brand_oracle import pair_of
from tests.models.decoder_oracle import Pair, gap, in_chunks, logits_of


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pair_of("deepseek-v32")


def test_the_cache_holds_an_index_key_beside_each_row(pair: Pair) -> None:
    k, v = pair.graph.new_cache(2, 5).rows(0)
    assert (tuple(k.shape), tuple(v.shape)) == ((10, 1, 28), (10, 1, 12))


@torch.no_grad()
@pytest.mark.parametrize("length", [8, 9, 10, 11])
def test_decoding_is_prefill_where_choosing_begins(pair: Pair, length: int) -> None:
    """Nine tokens are chosen: of so many or fewer, all."""
    prompt = pair.prompts[0][:length]
    assert gap(in_chunks(pair.graph, prompt, [1] * length), logits_of(pair.graph, prompt)) < 1e-5
    theirs = pair.oracle(torch.tensor([prompt])).logits[0]
    assert gap(logits_of(pair.graph, prompt), theirs) < 1e-5


@torch.no_grad()
def test_shares_of_segments_sum_to_one(pair: Pair) -> None:
    """Told in the pass, and beside it over pages, they are the same."""
    prompt = pair.prompts[0]
    segments = [0] * 12 + [1] * 20 + [2] * 12
    batch = Batch.pack([prompt], segments=[segments])
    states = pair.graph(batch, watch=Watch(mass=True)).states
    shares = torch.stack([state.shares for state in states.values()])
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 44, 4))
    rows = (3, 30, 43)
    runs = ((0, 0, 12), (1, 12, 32), (2, 32, 44))
    heads = by_layer(tuple((layer, head) for layer in range(2) for head in range(4)))
    watch = PassWatch((WatchedRows(0, rows, runs, 3, heads),))
    observer = Observer(watch)
    cache = pair.graph.new_paged_cache(num_blocks=2)
    pair.graph(Batch.pack([prompt], block_tables=[[1, 0]]), cache, observer=observer)
    told = torch.from_numpy(shares_of(watch, observer.seen).mass)
    torch.testing.assert_close(told, shares[:, list(rows)].mean((0, 2)), rtol=1e-4, atol=1e-5)
    assert float(told[2, 0]) < 0.9


@torch.no_grad()
def test_what_is_denied_changes_no_logit(pair: Pair) -> None:
    """Other tokens in its place are not chosen either, and displace none."""
    prompt = pair.prompts[0]
    other = [*prompt[:5], *(1 + token % 150 for token in prompt[5:11]), *prompt[11:]]
    assert other != prompt
    logits = []
    for tokens in (prompt, other):
        batch = Batch.pack([tokens])
        bias = torch.zeros(len(tokens))
        bias[5:11] = float("-inf")
        keys = replace(batch.plan.keys[0], bias=bias)
        hidden = pair.graph(replace(batch, plan=batch.plan.with_keys(keys))).hidden
        logits.append(pair.graph.logits(hidden)[11:])
    assert gap(*logits) < 1e-6
    assert gap(logits[0], logits_of(pair.graph, prompt)[11:]) > 1e-3
