"""Check the laws of the algebra: whatever is split, moved, padded or cut, the answer stays."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionState,
    AttentionWeights,
    DenseSource,
    KeyPlan,
    PagedSource,
    QueryPlan,
    Watch,
    attend,
    merge,
)
from cynosure.attention.backends.choice import BACKENDS
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.plan import cumulative
from tests.attention.attend_cases import (
    CAUSAL_MASKS,
    NATIVE,
    Case,
    assert_same,
    cases,
    fitted,
    make_case,
    plain_spec,
    tolerance_of,
)

BACKEND_NAMES = ["reference", "tiled", "sdpa", NATIVE]
calm = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "tiled", TiledBackend(block=4, max_keys=8, max_rows=4, max_scores=1 << 20))


def runs_on(backend: str, case: Case) -> bool:
    heads = case.spec.heads
    return backend != "sdpa" or (case.spec.score.softcap is None and heads.head_dim == heads.v_head_dim)


def chosen_keys(keys: KeyPlan, index: Tensor, lengths: list[int]) -> KeyPlan:
    """The plan of some of the keys, in a new order within each sequence."""
    segments = None if keys.segments is None else keys.segments[index]
    return replace(keys, cu_seqlens=cumulative(lengths), positions=keys.positions[index], segments=segments)


def as_shares(state: AttentionState) -> Tensor:
    return torch.cat([state.shares, state.sink_share[..., None]], -1)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases(), data=st.data())
@calm
def test_split_and_merge_is_the_whole(backend: str, case: Case, data: st.DataObject) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case) and case.plan.num_segments > 0)
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    num_parts = data.draw(st.integers(1, 4))
    owner = torch.randint(0, num_parts, (case.k.shape[0],), generator=random)
    seq_of = torch.repeat_interleave(torch.arange(len(case.kv_lens)), torch.tensor(case.kv_lens))
    sources, plans = [], []
    for part in range(num_parts):
        index = torch.nonzero(owner == part).flatten()
        lengths = torch.bincount(seq_of[index], minlength=len(case.kv_lens)).tolist()
        sources.append(DenseSource(case.k[index], case.v[index]))
        plans.append(chosen_keys(case.plan.keys[0], index, lengths))
    watch = Watch(entropy=True, max_logit=True)
    whole = case.attend(backend, watch)
    plan = case.plan.with_keys(*plans)
    split = attend(case.spec, case.q, sources, plan, weights=case.weights, watch=watch, backend=backend)
    tolerance = tolerance_of(backend)
    assert_same(split, whole, tolerance)
    torch.testing.assert_close(as_shares(split), as_shares(whole), atol=tolerance, rtol=0)
    torch.testing.assert_close(split.entropy, whole.entropy, atol=100 * tolerance, rtol=tolerance)


@given(data=st.data())
@calm
def test_merge_is_associative_and_commutative_with_an_identity(data: st.DataObject) -> None:
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    states = []
    for _ in range(3):
        lse = torch.randn(5, 2, generator=random, dtype=torch.float64) * 30
        lse[torch.rand(5, 2, generator=random) < 0.3] = -math.inf
        out = torch.randn(5, 2, 4, generator=random, dtype=torch.float64)
        states.append(AttentionState(out.where(~torch.isneginf(lse)[..., None], torch.zeros(())), lse))
    a, b, c = states
    for order in itertools.permutations(states):
        assert_same(merge(merge(*order[:2]), order[2]), merge(a, merge(b, c)))
    assert_same(merge(a, AttentionState.identity(5, 2, 4, a.out)), a, 0.0)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases(), block_size=st.integers(1, 9), data=st.data())
@calm
def test_permuted_pages_change_nothing(
    backend: str, case: Case, block_size: int, data: st.DataObject
) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case))
    counts = [-(-length // block_size) for length in case.kv_lens]
    order = data.draw(st.permutations(range(sum(counts) + 2)))
    k_pages = torch.full((len(order), case.k.shape[1], block_size, case.k.shape[2]), 1e3, dtype=case.q.dtype)
    v_pages = torch.full((len(order), case.v.shape[1], block_size, case.v.shape[2]), 1e3, dtype=case.q.dtype)
    table = torch.zeros(len(counts), max(counts, default=0), dtype=torch.int64)
    free = iter(order)
    for seq, count in enumerate(counts):
        first = case.plan.keys[0].offsets[seq]
        for page in range(count):
            block = table[seq, page] = next(free)
            rows = slice(
                first + page * block_size, min(first + case.kv_lens[seq], first + (page + 1) * block_size)
            )
            k_pages[block, :, : rows.stop - rows.start] = case.k[rows].transpose(0, 1)
            v_pages[block, :, : rows.stop - rows.start] = case.v[rows].transpose(0, 1)
    plan = case.plan.with_keys(replace(case.plan.keys[0], block_table=table))
    paged = attend(
        case.spec, case.q, [PagedSource(k_pages, v_pages)], plan, weights=case.weights, backend=backend
    )
    assert_same(paged, case.attend(backend), 0.0)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases(masks=CAUSAL_MASKS), data=st.data())
@calm
def test_padding_changes_nothing(backend: str, case: Case, data: st.DataObject) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case))
    k, v, positions, segments, is_pad, lengths = [], [], [], [], [], []
    keys = case.plan.keys[0]
    for seq, length in enumerate(case.kv_lens):
        num_pads = data.draw(st.integers(0, 9))
        rows = slice(keys.offsets[seq], keys.offsets[seq + 1])
        on_left = data.draw(st.booleans())

        def join(pads: Tensor, real: Tensor, on_left: bool = on_left) -> Tensor:
            return torch.cat([pads, real] if on_left else [real, pads])

        k.append(join(torch.full((num_pads, *case.k.shape[1:]), 99.0, dtype=case.q.dtype), case.k[rows]))
        v.append(join(torch.full((num_pads, *case.v.shape[1:]), 99.0, dtype=case.q.dtype), case.v[rows]))
        zeros = torch.zeros(num_pads, dtype=torch.int64)
        positions.append(join(zeros, keys.positions[rows]))
        segments.append(join(zeros, zeros.new_zeros(length)))
        is_pad.append(join(zeros == 0, torch.zeros(length, dtype=torch.bool)))
        lengths.append(length + num_pads)
    padded = KeyPlan(cumulative(lengths), torch.cat(positions), is_pad=torch.cat(is_pad))
    plan = AttentionPlan(case.plan.queries, (padded,))
    source = DenseSource(torch.cat(k), torch.cat(v))
    state = attend(case.spec, case.q, [source], plan, weights=case.weights, backend=backend)
    assert_same(state, case.attend(backend), tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases(masks=CAUSAL_MASKS), chunk=st.integers(1, 9))
@calm
def test_chunked_prefill_and_decode_equal_prefill(backend: str, case: Case, chunk: int) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case))
    whole = case.attend(backend)
    for seq, (num_q, num_keys) in enumerate(zip(case.q_lens, case.kv_lens, strict=True)):
        first_q, first_k = case.plan.queries.offsets[seq], case.plan.keys[0].offsets[seq]
        for start in range(0, num_q, chunk):
            stop = min(num_q, start + chunk)
            # Later keys are not written yet: a decoder sees only what came before.
            seen = num_keys - num_q + stop
            plan = AttentionPlan.of_lengths([stop - start], [seen], starts=[first_k])
            part = attend(
                case.spec,
                case.q[first_q + start : first_q + stop],
                case.sources,
                plan,
                weights=case.weights,
                backend=backend,
            )
            rows = slice(first_q + start, first_q + stop)
            assert_same(part, AttentionState(whole.out[rows], whole.lse[rows]), tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases())
@calm
def test_a_sequence_gets_in_a_batch_what_it_gets_alone(backend: str, case: Case) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case))
    whole = case.attend(backend)
    for seq, (num_q, num_keys) in enumerate(zip(case.q_lens, case.kv_lens, strict=True)):
        rows = slice(case.plan.queries.offsets[seq], case.plan.queries.offsets[seq + 1])
        plan = AttentionPlan.of_lengths([num_q], [num_keys], starts=[case.plan.keys[0].offsets[seq]])
        alone = attend(case.spec, case.q[rows], case.sources, plan, weights=case.weights, backend=backend)
        assert_same(alone, AttentionState(whole.out[rows], whole.lse[rows]), tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases())
@calm
def test_observing_changes_no_bit_and_shares_sum_to_one(backend: str, case: Case) -> None:
    case = case.to(torch.float32)
    assume(runs_on(backend, case) and case.plan.num_segments > 0)
    plain = case.attend(backend)
    seen = case.attend(backend, Watch(entropy=True, max_logit=True, top_k=3, heads=(0,)))
    assert torch.equal(plain.out, seen.out)
    assert torch.equal(plain.lse, seen.lse)
    total = as_shares(seen).sum(-1)
    expected = (~torch.isneginf(seen.lse[:, :1])).float()
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 17])
def test_a_window_of_all_tokens_is_full(backend: str, length: int) -> None:
    wide = make_case(plain_spec(f"Causal() & Window({max(1, length)})"), [length], [length])
    wide = fitted(wide, backend)
    full = replace(wide, spec=plain_spec("Causal()")).attend(backend)
    assert_same(wide.attend(backend), full, tolerance_of(backend))
    if length > 3:
        narrow = replace(wide, spec=plain_spec(f"Causal() & Window({length - 1})"))
        assert (narrow.attend(backend).out - wide.attend(backend).out).abs().max() > 1e-6


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_tree_gives_each_path_what_it_gets_alone(backend: str) -> None:
    """Three committed tokens, then drafts: 3 -> 4, 3 -> 5 -> 6, and a second root 7 beside 3."""
    parents = torch.tensor([0, 0, 1, 2, 3, 3, 5, 2])
    depths = torch.tensor([0, 1, 2, 3, 4, 4, 5, 3])
    case = fitted(make_case(plain_spec("Causal() & Tree()"), [8], [8]), backend)
    queries = QueryPlan(cumulative([8]), depths, nodes=torch.arange(8))
    keys = KeyPlan(cumulative([8]), depths, tree_parents=parents)
    plan = AttentionPlan(queries, (keys,))
    tree = attend(case.spec, case.q, case.sources, plan, backend=backend)
    for path in ([0, 1, 2, 3, 4], [0, 1, 2, 3, 5, 6], [0, 1, 2, 7]):
        alone = attend(
            plain_spec("Causal()"),
            case.q[path],
            [DenseSource(case.k[path], case.v[path])],
            AttentionPlan.of_lengths([len(path)]),
            backend=backend,
        )
        assert_same(AttentionState(tree.out[path], tree.lse[path]), alone, tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_packed_documents_equal_separate_sequences(backend: str) -> None:
    lengths = [5, 1, 9]
    case = fitted(make_case(plain_spec("Causal() & Document()"), [15], [15]), backend)
    documents = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    plan = case.plan
    packed = replace(
        plan,
        queries=replace(plan.queries, documents=documents),
        keys=(replace(plan.keys[0], documents=documents),),
    )
    state = attend(case.spec, case.q, case.sources, packed, backend=backend)
    apart = attend(
        plain_spec("Causal()"), case.q, case.sources, AttentionPlan.of_lengths(lengths), backend=backend
    )
    assert_same(state, apart, tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@given(case=cases(masks=CAUSAL_MASKS), random=st.integers(0, 2**31))
@calm
def test_a_denied_segment_does_not_interfere(backend: str, case: Case, random: int) -> None:
    case = fitted(case, backend)
    assume(runs_on(backend, case) and case.plan.num_segments > 1)
    keys = case.plan.keys[0]
    assert keys.segments is not None
    denied = keys.segments == 1
    bias = torch.zeros(denied.shape, dtype=case.q.dtype).masked_fill(denied, -math.inf)
    plan = case.plan.with_keys(replace(keys, bias=bias))

    def run(k: Tensor, v: Tensor) -> AttentionState:
        watch = Watch()
        source = DenseSource(k, v)
        return attend(case.spec, case.q, [source], plan, weights=case.weights, watch=watch, backend=backend)

    generator = torch.Generator().manual_seed(random)
    other_k, other_v = case.k.clone(), case.v.clone()
    noise = torch.randn(int(denied.sum()), *case.k.shape[1:], generator=generator, dtype=case.q.dtype)
    other_k[denied] = noise * 9
    other_v[denied] = 1e6
    clean, noisy = run(case.k, case.v), run(other_k, other_v)
    assert_same(clean, noisy, 1e-12)
    assert float(noisy.shares[..., 1].sum()) == 0.0


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_bias_of_log_a_multiplies_the_odds_of_a_segment(backend: str) -> None:
    case = fitted(make_case(plain_spec("Full()"), [4], [12], num_segments=3, seed=3), backend)
    keys = case.plan.keys[0]
    assert keys.segments is not None
    bias = (keys.segments == 2).double() * math.log(5.0)
    plan = case.plan.with_keys(replace(keys, bias=bias))
    before = case.attend(backend, Watch()).shares
    after = attend(case.spec, case.q, case.sources, plan, watch=Watch(), backend=backend).shares
    odds = before[..., 2] / (1 - before[..., 2])
    tolerance = tolerance_of(backend, 1e-9)
    torch.testing.assert_close(after[..., 2] / (1 - after[..., 2]), 5 * odds, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_memory_tokens_are_a_source_like_any_other(backend: str) -> None:
    case = fitted(make_case(plain_spec("Causal()"), [3, 5], [7, 5]), backend)
    memory_k, memory_v = torch.randn(2, 4, 2, 8, dtype=case.q.dtype)
    memory = KeyPlan(cumulative([4, 4]), torch.zeros(8, dtype=torch.int64), is_always_visible=True)
    memory = replace(memory, starts=torch.tensor([0, 0]), segments=torch.zeros(8, dtype=torch.int64))
    plan = case.plan.with_keys(memory, case.plan.keys[0])
    source = DenseSource(memory_k, memory_v)
    state = attend(case.spec, case.q, [source, *case.sources], plan, backend=backend)
    for seq in range(2):
        columns = slice(case.plan.keys[0].offsets[seq], case.plan.keys[0].offsets[seq + 1])
        rows = slice(case.plan.queries.offsets[seq], case.plan.queries.offsets[seq + 1])
        k, v = torch.cat([memory_k, case.k[columns]]), torch.cat([memory_v, case.v[columns]])
        joined = AttentionPlan.of_lengths([rows.stop - rows.start], [k.shape[0]])
        alone = attend(case.spec, case.q[rows], [DenseSource(k, v)], joined, backend=backend)
        assert_same(AttentionState(state.out[rows], state.lse[rows]), alone, tolerance_of(backend))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_dense_bias_is_added_to_every_score(backend: str) -> None:
    case = fitted(make_case(plain_spec("Causal()"), [6, 9], [9, 9]), backend)
    bias = torch.randn(4, 9, 9, dtype=case.q.dtype)
    weights = AttentionWeights(bias=bias)
    state = replace(case, weights=weights).attend(backend)
    q, k = case.q[:6, 3], case.k[:9, 1]
    scores = q @ k.T / math.sqrt(8) + bias[3, :6]
    allowed = parse_mask("Causal()").allowed(case.plan.grids[0][0])
    expected = scores.masked_fill(~allowed, -math.inf).softmax(-1) @ case.v[:9, 1]
    tolerance = tolerance_of(backend)
    torch.testing.assert_close(state.out[:6, 3], expected, atol=tolerance, rtol=tolerance)
