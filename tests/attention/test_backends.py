"""Hold every backend against the float64 reference."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionWeights,
    Heads,
    Score,
    Sink,
    TopK,
    Watch,
    attend,
)
from cynosure.attention.backends import native
from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.choice import BACKENDS, choose
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.attention.masks import Causal, Full
from cynosure.attention.positions import Alibi, T5Bias
from cynosure.core.errors import UnknownOption, UnsupportedByBackend
from tests.attention.attend_cases import NATIVE, Case, assert_same, cases, make_case, plain_spec

SMALL_TILES = TiledBackend(block=4, max_keys=12, max_rows=8, max_scores=1 << 20)
FAST = ("tiled", "sdpa", "flex", NATIVE)
FLOOR = {torch.float32: 5e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
WATCH = Watch(entropy=True, max_logit=True, top_k=2)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let short sequences span several blocks and tiles."""
    monkeypatch.setitem(BACKENDS, "tiled", SMALL_TILES)


def naive(case: Case) -> Tensor:
    """Plain torch in the case's own dtype, head by head, from the reference's own mask and bias."""
    rows = []
    for seq, grid in enumerate(case.plan.grids[0]):
        call = AttentionCall(case.spec, case.q, case.sources[0], case.plan, 0, case.weights, None, (0,) * 9)
        k, v = case.sources[0].read(case.plan.keys[0], seq, 0, grid.num_keys)
        q = case.q[call.rows(seq)].transpose(0, 1)
        if case.spec.score.log_n is not None:
            growth = (grid.q_positions + 1).double().log() / math.log(case.spec.score.log_n.train_length)
            q = q * growth.clamp(min=1)[:, None].to(q.dtype)
        group = case.spec.heads.group_size
        scores = (q @ k.repeat_interleave(group, 0).transpose(1, 2)) * case.spec.score.scale_for(q.shape[-1])
        if case.spec.score.softcap is not None:
            scores = case.spec.score.softcap * torch.tanh(scores / case.spec.score.softcap)
        bias = call.bias_of(grid)
        scores = scores if bias is None else scores + bias.to(scores.dtype)
        scores = scores.masked_fill(~call.mask.allowed(grid), float("-inf"))
        sink = {Sink.NONE: -math.inf, Sink.ZERO: 0.0}.get(case.spec.sink, case.weights.sinks)
        column = torch.as_tensor(sink, dtype=scores.dtype).expand(scores.shape[0])[:, None, None]
        scores = torch.cat([scores, column.expand(-1, scores.shape[1], 1)], -1)
        weights = scores.softmax(-1)[..., :-1].nan_to_num(0.0)
        rows.append((weights @ v.repeat_interleave(group, 0)).transpose(0, 1))
    return torch.cat(rows)


@given(case=cases())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_reference_equals_plain_torch(case: Case) -> None:
    torch.testing.assert_close(case.attend().out, naive(case), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", ["reference", *FAST])
@given(case=cases())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_errors_are_at_most_twice_those_of_plain_torch(backend: str, dtype: torch.dtype, case: Case) -> None:
    rounded = case.to(dtype)
    case = rounded.to(torch.float64)
    if backend != "reference" and not runs(backend, rounded):
        return
    exact = case.attend()
    plain_error = largest(naive(rounded).double() - exact.out)
    state = rounded.attend(backend)
    assert largest(state.out.double() - exact.out) <= 2 * plain_error + FLOOR[dtype]
    seen = ~torch.isneginf(exact.lse)
    assert torch.equal(torch.isneginf(state.lse), ~seen)
    assert largest((state.lse.double() - exact.lse)[seen]) <= 60 * FLOOR[dtype]


@pytest.mark.parametrize("backend", FAST)
@given(case=cases(is_plain=True))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_statistics_equal_those_of_the_dense_map(backend: str, case: Case) -> None:
    case = case.to(torch.float32)
    if not runs(backend, case):
        return
    watch = replace(WATCH, mass=case.plan.num_segments > 0)
    dense, state = case.attend("reference", watch), case.attend(backend, watch)
    torch.testing.assert_close(state.entropy, dense.entropy, atol=2e-4, rtol=1e-4)
    assert state.stats is not None
    assert dense.stats is not None
    torch.testing.assert_close(state.stats.max_logit, dense.stats.max_logit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.stats.top_logits, dense.stats.top_logits, atol=1e-5, rtol=1e-5)
    if state.stats.mass_lse is not None:
        torch.testing.assert_close(state.shares, dense.shares, atol=1e-5, rtol=0)
        torch.testing.assert_close(state.sink_share, dense.sink_share, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_a_row_that_sees_nothing_gives_zero_and_minus_infinity(backend: str) -> None:
    case = make_case(plain_spec("Causal() & ~Window(3)"), [9], [9]).to(torch.float32)
    if backend == "flex":
        case = replace(case, plan=replace(case.plan, num_segments=0, keys=without_segments(case)))
    state = case.attend(backend)
    assert torch.isneginf(state.lse[:3]).all()
    assert (state.out[:3] == 0).all()
    assert torch.isfinite(state.lse[3:]).all()


def test_top_k_of_all_keys_is_dense_and_of_fewer_is_not() -> None:
    spec = plain_spec()
    case = make_case(spec, [20], [20])
    for page_size in (1, 4):
        everything = replace(case, spec=replace(spec, selection=TopK(-(-20 // page_size), page_size)))
        assert_same(everything.attend(), case.attend())
        fewer = replace(case, spec=replace(spec, selection=TopK(2, page_size)))
        assert largest(fewer.attend().out - case.attend().out) > 1e-2


def test_page_bounds_keep_the_page_of_the_best_key() -> None:
    case = make_case(plain_spec(num_heads=2, num_kv_heads=1), [40], [40])
    best = case.attend("reference", Watch(mass=False, top_k=1)).stats
    chosen = replace(case, spec=replace(case.spec, selection=TopK(3, 4)))
    kept = chosen.attend("reference", Watch(mass=False, top_k=1)).stats
    assert best is not None
    assert kept is not None
    share = (best.top_keys == kept.top_keys).double().mean()
    assert share > 0.8


def test_a_backend_asked_for_by_name_refuses_with_reasons() -> None:
    case = make_case(AttentionSpec(Heads.of(2, 8), Causal(), score=Score(softcap=5.0)), [4], [4])
    with pytest.raises(UnsupportedByBackend, match="softcap"):
        case.attend("sdpa")
    with pytest.raises(UnsupportedByBackend, match="triton"):
        case.attend("triton")
    with pytest.raises(UnknownOption, match="choose one of"):
        case.attend("fastest")


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be compiled."""
    monkeypatch.setattr(native, "why_none", lambda: "no native kernels were compiled")


@pytest.mark.usefixtures("no_kernels")
def test_auto_takes_the_fused_kernel_where_it_serves_and_says_why_not_elsewhere() -> None:
    case = make_case(plain_spec(), [6], [6]).to(torch.float32)
    assert choice_of(case).name == "sdpa"
    capped = replace(case, spec=replace(case.spec, score=Score(softcap=3.0)))
    choice = choice_of(capped)
    assert choice.name == "tiled"
    assert any(
        "softcap" in reason for name, reasons in choice.rejected if name == "sdpa" for reason in reasons
    )


@pytest.mark.usefixtures("no_kernels")
def test_a_dense_mask_too_large_to_write_is_left_to_the_tiles() -> None:
    spec = AttentionSpec(Heads.of(8, 8, 1), Causal(), Alibi(8))
    case = make_case(spec, [3000], [3000]).to(torch.float32)
    assert choice_of(case).name == "tiled"
    assert (
        choice_of(replace(case, spec=replace(spec, mask=Full(), position=plain_spec().position))).name
        == "sdpa"
    )


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("term", ["alibi", "t5", "key", "dense"])
def test_no_bias_is_lost_on_a_whole_causal_prompt(backend: str, term: str) -> None:
    position = {"alibi": Alibi(4), "t5": T5Bias(8, 16, True)}.get(term)
    case = make_case(plain_spec(position=position), [9], [9], num_segments=0).to(torch.float32)
    if term == "key":
        keys = replace(case.plan.keys[0], bias=torch.randn(9))
        case = replace(case, plan=case.plan.with_keys(keys))
    if term == "dense":
        case = replace(case, weights=AttentionWeights(bias=torch.randn(4, 9, 9)))
    expected = case.attend("reference")
    assert_same(case.attend(backend), expected, 1e-5)
    bare = replace(case, spec=plain_spec(), weights=AttentionWeights(), plan=AttentionPlan.of_lengths([9]))
    assert largest(bare.attend(backend).out - expected.out) > 1e-2


def test_tiles_skip_what_the_mask_empties() -> None:
    covers = [0, 1, 1, 2, 2, 2, 2, 0, 2]
    assert SMALL_TILES.key_chunks(covers, 35) == [
        (4, 12, True),
        (12, 24, False),
        (24, 28, False),
        (32, 35, False),
    ]


def test_a_broken_backend_is_caught() -> None:
    """The comparison above fails for a window that is off by one."""
    case = make_case(plain_spec("Causal() & Window(9)"), [33], [33]).to(torch.float32)
    wrong = replace(case, spec=plain_spec("Causal() & Window(8)"))
    assert largest(wrong.attend("tiled").out - case.attend("tiled").out) > 1e-3


def runs(backend: str, case: Case) -> bool:
    call = AttentionCall(case.spec, case.q, case.sources[0], case.plan, 0, case.weights, None, (0,) * 9)
    return not BACKENDS[backend].refusals(call)


def choice_of(case: Case):  # noqa: ANN201
    call = AttentionCall(case.spec, case.q, case.sources[0], case.plan, 0, case.weights, None, (0,) * 9)
    return choose(call)


def without_segments(case: Case):  # noqa: ANN201
    return tuple(replace(keys, segments=None) for keys in case.plan.keys)


def largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def test_attend_runs_without_sources() -> None:
    case = make_case(plain_spec(), [3], [3])
    state = attend(case.spec, case.q, [], case.plan.with_keys())
    assert torch.isneginf(state.lse).all()
