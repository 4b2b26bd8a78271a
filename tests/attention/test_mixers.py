"""Mixers equal the float64 reference, whole, in chunks, stepwise and split; mutations are noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cynosure.attention.mixers import (
    Favor,
    GatedDelta,
    KimiDelta,
    Lightning,
    Method,
    MixerInputs,
    MixerSpec,
    MixerState,
    RealGated,
    StateSpace,
    draw_projection,
    mix,
    reference_mix,
)
from cynosure.attention.mixers.inputs import needed_fields
from cynosure.core.errors import AttentionError

CHUNK = 8
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3]
SPECS = {
    "favor": MixerSpec(Favor(24), 4, 6, 5, CHUNK),
    "favor_full": MixerSpec(Favor(24, is_causal=False), 4, 6, 5, CHUNK),
    "lightning": MixerSpec(Lightning(1, 3), 4, 6, 5, CHUNK),
    "state_space": MixerSpec(StateSpace(), 4, 6, 5, CHUNK),
    "gated_delta": MixerSpec(GatedDelta(), 4, 6, 5, CHUNK),
    "kimi_delta": MixerSpec(KimiDelta(), 4, 6, 5, CHUNK),
    "real_gated": MixerSpec(RealGated(), 4, 1, 1, CHUNK),
}
CAUSAL = [name for name in SPECS if name != "favor_full"]
TOLERANCE = 1e-5


def drawn(spec: MixerSpec, length: int, seed: int = 0, strength: float = 1.0) -> MixerInputs:
    """Random inputs of two sequences, in float64, with heads that share queries and keys."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    per_head = (2, length, spec.num_heads)
    decays = (*per_head, spec.head_dim) if isinstance(spec.kind, KimiDelta) else per_head
    made = {
        "q": normal(2, length, spec.num_heads // 2, spec.head_dim),
        "k": normal(2, length, spec.num_heads // 2, spec.head_dim),
        "log_decay": -strength * normal(*decays).exp() / 4,
        "write": torch.sigmoid(normal(*per_head)),
        "projection": draw_projection(24, spec.head_dim, generator),
    }
    return MixerInputs(
        normal(*per_head, spec.v_head_dim), **{name: made[name] for name in needed_fields(spec)}
    )


def cast(inputs: MixerInputs, dtype: torch.dtype) -> MixerInputs:
    return replace(inputs, **{name: x.to(dtype) for name, x in vars(inputs).items() if x is not None})


def part(inputs: MixerInputs, start: int, stop: int) -> MixerInputs:
    kept = {name: x for name, x in vars(inputs).items() if x is not None and name != "projection"}
    return replace(inputs, **{name: x[:, start:stop] for name, x in kept.items()})


def off(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).abs().max()) if exact.numel() else 0.0


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("name", SPECS)
def test_every_method_equals_the_reference(name: str, method: Method, length: int) -> None:
    inputs = drawn(SPECS[name], length)
    exact = reference_mix(SPECS[name], inputs)
    for dtype, bound in ((torch.float32, TOLERANCE), (torch.float64, 1e-12)):
        out, state = mix(SPECS[name], cast(inputs, dtype), method=method)
        assert out.dtype == dtype
        assert out.shape == exact.shape
        assert off(out, exact) < bound
        assert state.num_tokens == length


@pytest.mark.parametrize("name", CAUSAL)
@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, 21), max_size=4), seed=st.integers(0, 99))
def test_a_split_anywhere_changes_nothing(name: str, cuts: list[int], seed: int) -> None:
    spec, inputs = SPECS[name], cast(drawn(SPECS[name], 21, seed), torch.float32)
    whole, last = mix(spec, inputs)
    edges = [0, *sorted(cuts), 21]
    state, outs = None, []
    for start, stop in pairwise(edges):
        out, state = mix(spec, part(inputs, start, stop), state)
        outs.append(out)
    # Both are rounded, each within the tolerance of what is exact.
    assert off(torch.cat(outs, 1), whole.double()) < 2 * TOLERANCE
    assert state is not None
    assert state.num_tokens == 21
    assert off(state.matrix, last.matrix.double()) < TOLERANCE * float(last.matrix.abs().max().clamp(min=1))


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prompt_in_chunks_goes_on_by_single_steps(name: str) -> None:
    inputs = drawn(SPECS[name], 21)
    exact = reference_mix(SPECS[name], inputs)
    single = cast(inputs, torch.float32)
    _, state = mix(SPECS[name], part(single, 0, 13))
    for at in range(13, 21):
        out, state = mix(SPECS[name], part(single, at, at + 1), state)
        assert off(out[:, 0], exact[:, at]) < TOLERANCE


def test_keys_of_two_calls_are_read_together_where_nothing_is_causal() -> None:
    spec, inputs = SPECS["favor_full"], drawn(SPECS["favor_full"], 21)
    _, state = mix(spec, part(inputs, 0, 9))
    out, _ = mix(spec, part(inputs, 9, 21), state)
    assert off(out, reference_mix(spec, inputs)[:, 9:]) < 1e-12


@pytest.mark.parametrize("name", CAUSAL)
def test_later_tokens_change_no_earlier_output(name: str) -> None:
    inputs = drawn(SPECS[name], 21)
    changed = replace(inputs, v=torch.cat((inputs.v[:, :12], inputs.v[:, 12:] + 3), 1))
    before, after = (mix(SPECS[name], one, method=Method.CHUNKED)[0] for one in (inputs, changed))
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before, after)


@pytest.mark.parametrize("strength", [0.0, 40.0, 4e3, float("inf")])
@pytest.mark.parametrize("name", ["state_space", "gated_delta", "kimi_delta", "real_gated"])
def test_decays_of_any_strength_stay_finite_and_exact(name: str, strength: float) -> None:
    inputs = drawn(SPECS[name], 21)
    decay = inputs.log_decay
    assert decay is not None
    # Strong and weak decays alternate, so that a sum of strong ones must not swallow a weak one.
    alternating = torch.where(
        torch.arange(21).reshape(1, 21, *[1] * (decay.ndim - 2)) % 3 == 0, strength, 1e-3
    )
    inputs = replace(inputs, log_decay=-alternating.expand(decay.shape).double())
    out, state = mix(SPECS[name], cast(inputs, torch.float32), method=Method.CHUNKED)
    assert bool(state.matrix.isfinite().all())
    assert off(out, reference_mix(SPECS[name], inputs)) < TOLERANCE


@pytest.mark.parametrize("method", [Method.CHUNKED, Method.STEPWISE])
def test_large_keys_neither_overflow_nor_vanish(method: Method) -> None:
    """exp of these features is outside float32; only their quotients are inside."""
    spec, inputs = SPECS["favor"], drawn(SPECS["favor"], 21)
    assert inputs.k is not None
    inputs = replace(inputs, k=inputs.k * torch.linspace(1, 9, 21).reshape(1, 21, 1, 1))
    far = replace(inputs, k=inputs.k * 4)
    assert off(mix(spec, cast(inputs, torch.float32), method=method)[0], reference_mix(spec, inputs)) < 1e-4
    assert bool(mix(spec, cast(far, torch.float32), method=method)[0].isfinite().all())


def test_bfloat16_keeps_its_state_in_float32() -> None:
    spec = SPECS["gated_delta"]
    out, state = mix(spec, cast(drawn(spec, 9), torch.bfloat16))
    assert (out.dtype, state.matrix.dtype) == (torch.bfloat16, torch.float32)


def _late(x: Tensor | None) -> Tensor:
    assert x is not None
    return x.roll(1, 1)


def _tiled(x: Tensor | None) -> Tensor:
    assert x is not None
    return x.repeat(1, 1, 2, 1)


MUTATIONS: dict[str, Callable[[MixerInputs], MixerInputs]] = {
    "decay of the token before": lambda x: replace(x, log_decay=_late(x.log_decay)),
    "no decay": lambda x: replace(x, log_decay=torch.zeros_like(_late(x.log_decay))),
    "write all": lambda x: replace(x, write=torch.ones_like(_late(x.write))),
    "queries for keys": lambda x: replace(x, q=x.k, k=x.q),
    "heads shared by turns": lambda x: replace(x, q=_tiled(x.q)),
    "keys of the token before": lambda x: replace(x, k=_late(x.k)),
}
NEEDS = ["log_decay", "log_decay", "write", "q", "q", "k"]


@pytest.mark.parametrize(
    ("name", "mutation"),
    [
        (name, mutation)
        for name, spec in SPECS.items()
        for mutation, field in zip(MUTATIONS, NEEDS, strict=True)
        if field in needed_fields(spec)
    ],
)
def test_a_mutation_is_noticed(name: str, mutation: str) -> None:
    inputs = drawn(SPECS[name], 2 * CHUNK)
    exact = reference_mix(SPECS[name], inputs)
    assert off(mix(SPECS[name], MUTATIONS[mutation](inputs))[0], exact) > 1e3 * TOLERANCE


@pytest.mark.parametrize("name", CAUSAL)
def test_a_state_that_is_lost_is_noticed(name: str) -> None:
    inputs = drawn(SPECS[name], 2 * CHUNK)
    exact = reference_mix(SPECS[name], inputs)[:, CHUNK:]
    assert off(mix(SPECS[name], part(inputs, CHUNK, 2 * CHUNK))[0], exact) > 1e3 * TOLERANCE


@pytest.mark.parametrize(
    ("wrong", "right"),
    [(GatedDelta(eps=1.0), GatedDelta()), (Lightning(0, 3), Lightning(1, 3)), (StateSpace(), GatedDelta())],
)
def test_another_kind_is_noticed(wrong: GatedDelta, right: GatedDelta) -> None:
    spec = MixerSpec(right, 4, 6, 5, CHUNK)
    inputs = drawn(spec, 9)
    assert off(mix(replace(spec, kind=wrong), inputs)[0], reference_mix(spec, inputs)) > 1e3 * TOLERANCE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"write": None}, "takes the fields"),
        ({"projection": torch.zeros(3, 6)}, "takes the fields"),
        ({"q": torch.zeros(2, 4, 3, 6)}, "divide num_heads"),
        ({"q": torch.zeros(2, 4, 2, 7), "k": torch.zeros(2, 4, 2, 7)}, "q is"),
        ({"log_decay": torch.zeros(2, 4, 4, 6)}, "log_decay is"),
        ({"log_decay": torch.full((2, 4, 4), 0.1)}, "above 0"),
        ({"log_decay": torch.full((2, 4, 4), float("nan"))}, "nan"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(changes: dict[str, Tensor | None], said: str) -> None:
    spec = SPECS["gated_delta"]
    with pytest.raises(AttentionError, match=said):
        mix(spec, replace(cast(drawn(spec, 4), torch.float32), **changes))


def test_another_specs_state_is_refused() -> None:
    spec = SPECS["gated_delta"]
    inputs = drawn(spec, 4)
    with pytest.raises(AttentionError, match="same spec and batch"):
        mix(spec, inputs, MixerState.empty(replace(spec, head_dim=7), 2, inputs.v))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Favor(0),
        lambda: Favor(4, scale=0.0),
        lambda: Lightning(3, 3),
        lambda: MixerSpec(StateSpace(), 0, 1, 1),
        lambda: MixerSpec(RealGated(), 4, 2, 1),
        lambda: draw_projection(0, 4, torch.Generator()),
    ],
)
def test_values_that_mean_nothing_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(AttentionError, match=r"must be|width 1"):
        make()
