"""Check what `attend` refuses, and what plans, sources, states and combinations promise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    Differential,
    Gate,
    Heads,
    KeyPlan,
    LogN,
    PagedSource,
    QueryPlan,
    Score,
    Sink,
    TopK,
    Watch,
    attend,
    combine,
    explain,
    merge,
)
from cynosure.attention.backends import native
from cynosure.attention.combine import differential_coefficient
from cynosure.attention.plan import cumulative
from cynosure.attention.positions import T5Bias
from cynosure.core.errors import AttentionError
from tests.attention.attend_cases import make_case, plain_spec


def test_what_does_not_fit_together_is_named() -> None:
    case = make_case(plain_spec(), [3], [5])
    with pytest.raises(AttentionError, match="q must be"):
        attend(case.spec, case.q[:, :2], case.sources, case.plan)
    with pytest.raises(AttentionError, match="the plan holds 3 queries"):
        attend(case.spec, case.q[:2], case.sources, case.plan)
    with pytest.raises(AttentionError, match="2 sources were given and 1 are planned"):
        attend(case.spec, case.q, case.sources * 2, case.plan)
    with pytest.raises(AttentionError, match=r"torch\.float32"):
        attend(case.spec, case.q.float(), case.sources, case.plan)
    with pytest.raises(AttentionError, match="rows 0:5; the source has 4"):
        attend(case.spec, case.q, [DenseSource(case.k[:4], case.v[:4])], case.plan)
    with pytest.raises(AttentionError, match="learned sinks"):
        attend(replace(case.spec, sink=Sink.LEARNED), case.q, case.sources, case.plan)
    with pytest.raises(AttentionError, match="table"):
        attend(replace(case.spec, position=T5Bias(8, 16)), case.q, case.sources, case.plan)


def test_watching_what_is_not_planned_or_not_there_is_named() -> None:
    case = make_case(plain_spec(), [3], [5], num_segments=0)
    with pytest.raises(AttentionError, match="no segments"):
        case.attend(watch=Watch())
    with pytest.raises(AttentionError, match=r"0\.\.3"):
        case.attend(watch=Watch(mass=False, heads=(4,)))
    state = case.attend(watch=Watch(mass=False, max_logit=True))
    with pytest.raises(AttentionError, match="mass_lse was not watched"):
        _ = state.shares
    with pytest.raises(AttentionError, match="entropy was not watched"):
        _ = state.entropy
    with pytest.raises(AttentionError, match="nothing was watched"):
        _ = case.attend().entropy


def test_specs_refuse_what_means_nothing() -> None:
    with pytest.raises(AttentionError, match="multiple"):
        Heads.of(4, 8, 3)
    with pytest.raises(AttentionError, match="at least 1"):
        Heads.of(4, 0)
    with pytest.raises(AttentionError, match="softcap"):
        Score(softcap=0.0)
    with pytest.raises(AttentionError, match="train_length"):
        LogN(1)
    with pytest.raises(AttentionError, match="num_pages"):
        TopK(0)
    with pytest.raises(AttentionError, match="top_k"):
        Watch(top_k=-1)
    with pytest.raises(AttentionError, match="pairs heads"):
        AttentionSpec(Heads.of(3, 8), combination=Differential())


def test_specs_are_values() -> None:
    assert plain_spec("Causal() & Window(3)") == plain_spec("Causal() & Window(3)")
    assert len({plain_spec("Causal()"), plain_spec("Causal()"), plain_spec("Full()")}) == 2


def test_plans_refuse_layouts_that_contradict_themselves() -> None:
    with pytest.raises(AttentionError, match="last of the keys"):
        AttentionPlan.of_lengths([3], [2])
    queries = QueryPlan(cumulative([2]), torch.arange(2))
    with pytest.raises(AttentionError, match="plan both"):
        AttentionPlan(queries, (KeyPlan(cumulative([1, 1]), torch.arange(2)),))
    with pytest.raises(AttentionError, match="num_segments"):
        AttentionPlan(queries, (KeyPlan(cumulative([2]), torch.arange(2), segments=torch.zeros(2).long()),))
    counted = AttentionPlan(queries, (KeyPlan(cumulative([2]), torch.arange(2)),), num_segments=2)
    case = make_case(plain_spec(), [2], [2])
    with pytest.raises(AttentionError, match="source 0 has none"):
        attend(case.spec, case.q, case.sources, counted)


def test_sources_refuse_keys_and_values_that_do_not_match() -> None:
    with pytest.raises(AttentionError, match="agree in rows"):
        DenseSource(torch.zeros(3, 1, 2), torch.zeros(3, 1, 2).double())
    with pytest.raises(AttentionError, match="agree in pages"):
        PagedSource(torch.zeros(3, 1, 4, 2), torch.zeros(3, 1, 4, 2).double())
    pages = PagedSource(torch.zeros(3, 1, 4, 2), torch.zeros(3, 1, 4, 2))
    keys = KeyPlan(cumulative([9]), torch.arange(9))
    with pytest.raises(AttentionError, match="needs a block_table"):
        pages.check(keys)
    with pytest.raises(AttentionError, match="holds 2 pages"):
        pages.check(replace(keys, block_table=torch.tensor([[0, 1]])))
    with pytest.raises(AttentionError, match=r"outside of 0\.\.2"):
        pages.check(replace(keys, block_table=torch.tensor([[0, 1, 3]])))


def test_states_of_different_calls_do_not_merge() -> None:
    case = make_case(plain_spec(), [3], [5])
    state = case.attend()
    with pytest.raises(AttentionError, match="must agree"):
        merge(state, AttentionState(state.out[:2], state.lse[:2]))
    with pytest.raises(AttentionError, match="watch both or neither"):
        merge(state, case.attend(watch=Watch()))


@pytest.mark.parametrize("is_per_channel", [False, True])
def test_a_gate_scales_the_output(is_per_channel: bool) -> None:
    case = make_case(replace(plain_spec(), combination=Gate(is_per_channel)), [4], [4])
    state = case.attend()
    gate = torch.randn(state.out.shape if is_per_channel else state.lse.shape, dtype=torch.float64)
    expected = state.out * (1 / (1 + torch.exp(-gate))).reshape(4, 4, -1)
    torch.testing.assert_close(combine(case.spec, state, gate=gate), expected)
    with pytest.raises(AttentionError, match="gate logits must be"):
        combine(case.spec, state, gate=gate[:2])
    with pytest.raises(AttentionError, match="belong to a Gate"):
        combine(case.spec, state)


def test_differential_attention_cancels_what_both_heads_see() -> None:
    spec = replace(plain_spec(num_kv_heads=4), combination=Differential())
    case = make_case(spec, [4], [4])
    twin = replace(case, q=case.q[:, [0, 1, 0, 1]], k=case.k[:, [0, 1, 0, 1]], v=case.v[:, [0, 1, 0, 1]])
    one = torch.tensor(1.0, dtype=torch.float64)
    assert combine(spec, twin.attend(), coefficient=one).abs().max() < 1e-12
    state = case.attend()
    expected = state.out[:, :2] - 0.25 * state.out[:, 2:]
    torch.testing.assert_close(combine(spec, state, coefficient=one / 4), expected)
    with pytest.raises(AttentionError, match="belongs to Differential"):
        combine(plain_spec(), make_case(plain_spec(), [2], [2]).attend(), coefficient=one)


def test_the_coefficient_starts_at_the_papers_value() -> None:
    zero = torch.zeros(4)
    for layer, expected in ((0, 0.2), (11, 0.8 - 0.6 * math.exp(-3.3))):
        got = differential_coefficient((zero, zero), (zero, zero), layer)
        assert float(got) == pytest.approx(expected, abs=1e-6)


def test_sinks_take_their_share_and_give_no_value() -> None:
    case = make_case(replace(plain_spec("Full()"), sink=Sink.ZERO), [1], [1])
    case = replace(case, q=torch.zeros_like(case.q))
    state = case.attend(watch=Watch(entropy=True))
    torch.testing.assert_close(state.out, case.v[:, [0, 0, 1, 1]] / 2)
    torch.testing.assert_close(state.sink_share, torch.full((1, 4), 0.5, dtype=torch.float64))
    torch.testing.assert_close(state.entropy, torch.ones(1, 4, dtype=torch.float64))
    learned = replace(case, spec=replace(case.spec, sink=Sink.LEARNED))
    logits = torch.tensor([0.0, 50.0, -50.0, 0.0], dtype=torch.float64)
    state = replace(learned, weights=AttentionWeights(sinks=logits)).attend(watch=Watch())
    torch.testing.assert_close(state.sink_share[0], torch.tensor([0.5, 1.0, 0.0, 0.5], dtype=torch.float64))


def test_top_keys_number_the_keys_of_all_sources() -> None:
    case = make_case(plain_spec("Full()"), [1], [6])
    parts = [DenseSource(case.k[:2], case.v[:2]), DenseSource(case.k[2:], case.v[2:])]
    plans = [AttentionPlan.of_lengths([0], [2]).keys[0], AttentionPlan.of_lengths([0], [4]).keys[0]]
    watch = Watch(mass=False, top_k=6)
    plan = AttentionPlan(case.plan.queries, tuple(plans))
    split = attend(case.spec, case.q, parts, plan, watch=watch).stats
    whole = case.attend("reference", watch).stats
    assert split is not None
    assert whole is not None
    assert torch.equal(split.top_keys, whole.top_keys)


def test_explain_says_what_runs_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_none", lambda: "no native kernels were compiled")
    case = make_case(plain_spec("Causal() & Window(200)"), [700], [700], num_segments=2).to(torch.float32)
    told = explain(case.spec, case.q, case.sources, case.plan, weights=case.weights)
    text = str(told)
    assert "Causal() & Window(200)" in text
    assert "runs on sdpa" in text
    assert "not native: no native kernels were compiled" in text
    assert "2 runs of segments" in text
    assert 0.3 < told.sources[0].density < 0.6
    capped = replace(case.spec, score=Score(softcap=5.0))
    assert "not sdpa: the kernel can't bend scores" in str(explain(capped, case.q, case.sources, case.plan))
