"""A memory is one more source: exact search equals the reference, and everything equals dense at k >= N."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    DenseSource,
    Heads,
    MemorySource,
    Score,
    TopK,
    Watch,
    attend,
    explain,
    merge,
)
from cynosure.attention.attend import planned_calls
from cynosure.attention.backends.memory import MemoryBackend
from cynosure.attention.masks import Full
from cynosure.attention.memory import mix_by_gate, recall_of
from cynosure.attention.memory_search import FaissSearch, KeySearch
from cynosure.core.errors import AttentionError, UnsupportedByBackend

HEADS = Heads.of(4, 8, 2, 6)
SPEC = AttentionSpec(HEADS)
NUM_BEST = 5


def memory_of(num_rows: int, num_best: int = NUM_BEST, **settings: object) -> MemorySource:
    k, v = torch.randn(num_rows, 2, 8), torch.randn(num_rows, 2, 6)
    return MemorySource(2 * k, v, num_best, **settings)


def plan_of(memory: MemorySource, lengths: list[int]) -> AttentionPlan:
    return AttentionPlan.of_lengths(lengths).with_keys(memory.keys_for(len(lengths)))


def chosen_by_hand(q: Tensor, memory: MemorySource, num_best: int) -> Tensor:
    """The definition: each query of each head, its best keys, a softmax over them; in float64."""
    out = torch.zeros(*q.shape[:2], memory.v.shape[2], dtype=torch.float64)
    for row in range(q.shape[0]):
        for head in range(q.shape[1]):
            k, v = memory.k[:, head // 2].double(), memory.v[:, head // 2].double()
            scores = k @ q[row, head].double() / 8**0.5
            best = scores.argsort(descending=True)[:num_best]
            out[row, head] = scores[best].softmax(-1) @ v[best]
    return out


def alike(state: AttentionState, other: AttentionState) -> None:
    torch.testing.assert_close(state.out, other.out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.lse, other.lse, atol=1e-5, rtol=1e-5)


def test_each_query_and_head_attends_to_its_own_best_keys() -> None:
    memory, q = memory_of(40), torch.randn(7, 4, 8)
    state = attend(SPEC, q, [memory], plan_of(memory, [7]))
    torch.testing.assert_close(state.out.double(), chosen_by_hand(q, memory, NUM_BEST), atol=1e-5, rtol=1e-5)
    # The control: one key more is seen.
    assert (state.out.double() - chosen_by_hand(q, memory, NUM_BEST + 1)).abs().max() > 1e-3


@pytest.mark.parametrize("num_rows", [0, 1, NUM_BEST - 1, NUM_BEST, NUM_BEST + 1, 15, 16, 17, 40])
@pytest.mark.parametrize("lengths", [[1], [0, 3, 2]])
def test_tiles_equal_the_reference(num_rows: int, lengths: list[int]) -> None:
    memory, q = memory_of(num_rows), torch.randn(sum(lengths), 4, 8)
    segments = torch.arange(num_rows).repeat(len(lengths)) * 3 // max(1, num_rows)
    plan = AttentionPlan.of_lengths(lengths)
    plan = AttentionPlan(plan.queries, (replace(memory.keys_for(len(lengths)), segments=segments),), 3)
    watch = Watch(entropy=True, max_logit=True, top_k=7, heads=(0, 3))
    [call] = planned_calls(SPEC, q, [memory], plan, watch=watch)
    state = MemoryBackend(max_keys=8, max_scores=64).run(call)
    expected = attend(SPEC, q, [memory], plan, watch=watch, backend="reference")
    alike(state, expected)
    torch.testing.assert_close(state.shares, expected.shares, atol=1e-5, rtol=1e-5)
    assert state.stats is not None
    assert expected.stats is not None
    for name in ("mean_score", "max_logit", "top_logits"):
        torch.testing.assert_close(vars(state.stats)[name], vars(expected.stats)[name], atol=1e-5, rtol=1e-5)
    assert expected.stats.top_logits is not None
    seen = ~torch.isneginf(expected.stats.top_logits)
    assert torch.equal(state.stats.top_keys[seen], expected.stats.top_keys[seen])
    # Watching changes no bit.
    unwatched = MemoryBackend(max_keys=8, max_scores=64).run(replace(call, watch=None))
    assert torch.equal(unwatched.out, state.out)


@pytest.mark.parametrize("kind", [None, "Flat"])
@pytest.mark.parametrize("extra", [0, 1, 50])
def test_as_many_as_there_are_is_dense(kind: str | None, extra: int) -> None:
    memory, q = memory_of(23, 23 + extra), torch.randn(6, 4, 8)
    memory = memory if kind is None else replace(memory, search=FaissSearch(memory.k, kind))
    state = attend(SPEC, q, [memory], plan_of(memory, [6]))
    dense = attend(SPEC, q, [DenseSource(memory.k, memory.v)], plan_of(memory, [6]))
    alike(state, dense)
    fewer = replace(memory, num_best=22)
    assert (attend(SPEC, q, [fewer], plan_of(fewer, [6])).lse < dense.lse).any()


@pytest.mark.parametrize("score", [Score(), Score(scale=0.3, softcap=5.0)])
def test_a_search_equals_scoring_all(score: Score) -> None:
    spec, memory, q = replace(SPEC, score=score), memory_of(60), torch.randn(6, 4, 8)
    searched = replace(memory, search=FaissSearch(memory.k))
    plan, watch = plan_of(memory, [2, 4]), Watch(mass=False, top_k=NUM_BEST)
    state = attend(spec, q, [searched], plan, watch=watch)
    expected = attend(spec, q, [memory], plan, watch=watch)
    alike(state, expected)
    assert state.stats is not None
    assert expected.stats is not None
    assert torch.equal(state.stats.top_keys, expected.stats.top_keys)
    assert recall_of(spec, q, searched).keys == 1.0


def test_a_memory_merges_with_the_context() -> None:
    memory, q = memory_of(30), torch.randn(4, 4, 8)
    local, plan = DenseSource(torch.randn(9, 2, 8), torch.randn(9, 2, 6)), AttentionPlan.of_lengths([4], [9])
    both = AttentionPlan(plan.queries, (*plan.keys, memory.keys_for(1)))
    together = attend(SPEC, q, [local, memory], both)
    alone = attend(SPEC, q, [local], plan), attend(SPEC, q, [memory], plan_of(memory, [4]))
    alike(together, merge(*alone))
    # The context is not chosen from: its keys all count.
    assert (together.lse > alone[0].lse).all()


def test_biases_and_padding_are_seen_before_keys_are_chosen() -> None:
    memory, q = memory_of(30), torch.randn(3, 4, 8)
    plan = plan_of(memory, [3])
    denied = torch.zeros(30)
    denied[::2] = float("-inf")
    state = attend(SPEC, q, [memory], plan.with_keys(replace(plan.keys[0], bias=denied)))
    kept = MemorySource(memory.k[1::2], memory.v[1::2], NUM_BEST)
    alike(state, attend(SPEC, q, [kept], plan_of(kept, [3])))
    forged = memory.k.clone()
    forged[::2] *= 100
    other = replace(memory, k=forged)
    assert torch.equal(
        state.out, attend(SPEC, q, [other], plan.with_keys(replace(plan.keys[0], bias=denied))).out
    )
    padded = plan.with_keys(replace(plan.keys[0], is_pad=torch.isneginf(denied)))
    alike(state, attend(SPEC, q, [memory], padded))


def test_sequences_may_have_shares_of_one_memory() -> None:
    memory, q = memory_of(30), torch.randn(2, 4, 8)
    keys = replace(
        memory.keys_for(2),
        cu_seqlens=torch.tensor([0, 12, 30]),
        positions=torch.zeros(30, dtype=torch.int64),
        starts=torch.tensor([0, 12]),
    )
    state = attend(SPEC, q, [memory], AttentionPlan.of_lengths([1, 1]).with_keys(keys))
    for row, rows in enumerate((slice(0, 12), slice(12, 30))):
        part = MemorySource(memory.k[rows], memory.v[rows], NUM_BEST)
        alone = attend(SPEC, q[row : row + 1], [part], plan_of(part, [1]))
        torch.testing.assert_close(state.out[row : row + 1], alone.out)


def test_a_gate_weighs_two_softmaxes() -> None:
    memory, q = memory_of(30), torch.randn(4, 4, 8)
    local = attend(
        SPEC, q, [DenseSource(torch.randn(4, 2, 8), torch.randn(4, 2, 6))], AttentionPlan.of_lengths([4])
    )
    remembered = attend(SPEC, q, [memory], plan_of(memory, [4]))
    gate = torch.tensor([-40.0, 40.0, 0.0, 1.5])
    mixed = mix_by_gate(local, remembered, gate)
    torch.testing.assert_close(mixed[:, 0], local.out[:, 0])
    torch.testing.assert_close(mixed[:, 1], remembered.out[:, 1])
    torch.testing.assert_close(mixed[:, 2], (local.out[:, 2] + remembered.out[:, 2]) / 2)
    nothing = memory_of(0)
    assert torch.equal(mix_by_gate(local, attend(SPEC, q, [nothing], plan_of(nothing, [4])), gate), local.out)
    with pytest.raises(AttentionError, match="a logit a head"):
        mix_by_gate(local, remembered, gate[:3])


class _Misses(KeySearch):
    """Finds the best key of each query, and then keys that are not there."""

    def __init__(self, keys: Tensor) -> None:
        self._whole = FaissSearch(keys)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._whole.shape

    def best(self, q: Tensor, count: int) -> Tensor:
        found = self._whole.best(q, count)
        return torch.cat([found[..., :1], torch.full_like(found[..., 1:], -1)], -1)


def test_recall_tells_what_is_missed() -> None:
    memory, q = memory_of(30), torch.randn(4, 4, 8)
    recall = recall_of(SPEC, q, replace(memory, search=_Misses(memory.k)))
    assert recall.keys == pytest.approx(1 / NUM_BEST)
    exact = attend(SPEC, q, [memory], plan_of(memory, [4]), watch=Watch(mass=False, max_logit=True))
    assert exact.stats is not None
    assert exact.stats.max_logit is not None
    assert recall.attention == pytest.approx(
        float((exact.stats.max_logit - exact.lse).exp().mean()), abs=1e-5
    )
    with pytest.raises(AttentionError, match="compares a search"):
        recall_of(SPEC, q, memory)


def test_only_who_can_serve_is_chosen() -> None:
    memory, q = memory_of(30), torch.randn(4, 4, 8)
    plan = plan_of(memory, [4])
    assert "runs on memory" in str(explain(SPEC, q, [memory], plan))
    for backend in ("native", "sdpa", "flex", "tiled"):
        with pytest.raises(UnsupportedByBackend):
            attend(SPEC, q, [memory], plan, backend=backend)
    with pytest.raises(UnsupportedByBackend, match="reads a MemorySource"):
        attend(SPEC, q, [DenseSource(memory.k, memory.v)], plan, backend="memory")


def test_what_does_not_fit_is_refused() -> None:
    memory, q = memory_of(30), torch.randn(4, 4, 8)
    plan = plan_of(memory, [4])
    searched = replace(memory, search=FaissSearch(memory.k))
    with pytest.raises(AttentionError, match="num_best is 0"):
        memory_of(30, 0)
    with pytest.raises(AttentionError, match="was built over keys"):
        replace(searched, k=memory.k[1:], v=memory.v[1:])
    with pytest.raises(AttentionError, match="no mask reaches"):
        attend(AttentionSpec(HEADS, Full()), q, [memory], AttentionPlan.of_lengths([4]))
    with pytest.raises(AttentionError, match="leave the spec's out"):
        attend(replace(SPEC, selection=TopK(3)), q, [memory], plan)
    with pytest.raises(AttentionError, match="could take the place"):
        attend(SPEC, q, [searched], plan.with_keys(replace(plan.keys[0], bias=torch.zeros(30))))
    with pytest.raises(AttentionError, match="must grow"):
        attend(replace(SPEC, score=Score(scale=-1.0)), q, [searched], plan)
