"""What holds for every decoder: observing changes nothing, and what is denied leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from cynosure.attention import Watch
from cynosure.core.errors import InputTooLong
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from tests.models.decoder_cases import VOCAB
from tests.models.decoder_oracle import pair_of

#: Grouped heads on the fused kernel, softcaps on tiles, score biases.
NAMES = ["llama", "gemma2", "bloom"]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_observing_changes_no_bit_and_shares_sum_to_one(name: str) -> None:
    pair = pair_of(name)
    segments = [[index // 10 for index in range(len(prompt))] for prompt in pair.prompts]
    batch = Batch.pack(pair.prompts, segments=segments)
    plain = pair.graph(batch)
    seen = pair.graph(batch, watch=Watch(entropy=True, heads=(0, 2)), watched_layers=(1,))
    assert torch.equal(plain.hidden, seen.hidden)
    assert plain.states == {}
    assert seen.states.keys() == {1}
    state = seen.states[1]
    assert state.out.numel() == 0
    assert state.shares.shape == (len(batch.token_ids), 2, 5)
    torch.testing.assert_close(state.shares.sum(-1), torch.ones_like(state.entropy))
    assert pair.graph(batch, watch=Watch()).states.keys() == {0, 1, 2}


def logits_of(
    graph: Decoder, tokens: list[int], bias: Float[Tensor, " n"] | None, sizes: list[int]
) -> Float[Tensor, "n vocab"]:
    """Run `tokens` through a cache in chunks, with `bias` on the scores of each key."""
    cache = graph.new_cache(1, len(tokens))
    parts, first = [], 0
    for size in sizes:
        batch = Batch.pack([tokens[first : first + size]], past_lens=cache.lengths, max_len=cache.max_len)
        first += size
        if bias is not None:
            keys = replace(batch.plan.keys[0], bias=bias[:first])
            batch = replace(batch, plan=batch.plan.with_keys(keys))
        parts.append(graph.logits(graph(batch, cache).hidden))
    return torch.cat(parts)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_denied_segment_leaves_no_trace(name: str, data: st.DataObject) -> None:
    """Other tokens in a denied segment change no other logit, in prefill as in later chunks."""
    graph = pair_of(name).graph
    ids = st.integers(0, VOCAB - 1)
    tokens = data.draw(st.lists(ids, min_size=2, max_size=40))
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    others = data.draw(st.lists(ids, min_size=stop - start, max_size=stop - start))
    cut = data.draw(st.integers(1, len(tokens)))
    sizes = [size for size in (cut, len(tokens) - cut) if size]
    bias = torch.zeros(len(tokens))
    bias[start:stop] = float("-inf")
    replaced = [*tokens[:start], *others, *tokens[stop:]]
    before, after = (logits_of(graph, row, bias, sizes) for row in (tokens, replaced))
    outside = torch.ones(len(tokens), dtype=torch.bool)
    outside[start:stop] = False
    change = (before - after)[outside].abs()
    assert not change.numel() or float(change.max()) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_segment_that_is_not_denied_does_leave_one(name: str) -> None:
    graph, tokens = pair_of(name).graph, pair_of(name).prompts[0]
    replaced = [*tokens[:20], *reversed(tokens[20:30]), *tokens[30:]]
    before, after = (logits_of(graph, row, None, [len(tokens)]) for row in (tokens, replaced))
    assert torch.equal(before[:20], after[:20])
    assert float((before - after)[30:].abs().max()) > 0.1


def test_a_position_beyond_the_learned_ones_is_refused() -> None:
    graph = pair_of("gpt2").graph
    with pytest.raises(InputTooLong, match="position 96; the model learned 96"):
        graph(Batch.pack([[1] * 97]))


def test_a_full_cache_is_refused_and_a_cropped_one_goes_on() -> None:
    graph, tokens = pair_of("llama").graph, pair_of("llama").prompts[1]
    cache = graph.new_cache(1, len(tokens))
    whole = graph(Batch.pack([tokens], past_lens=[0], max_len=cache.max_len), cache).hidden
    with pytest.raises(InputTooLong, match="would hold 8 tokens; the limit is 7"):
        graph(Batch.pack([[1]], past_lens=cache.lengths, max_len=cache.max_len), cache)
    cache.crop([3])
    rest = graph(Batch.pack([tokens[3:]], past_lens=[3], max_len=cache.max_len), cache).hidden
    torch.testing.assert_close(rest, whole[3:], atol=1e-5, rtol=0)
