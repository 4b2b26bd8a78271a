"""A mixture of experts in one native call gives what the plain one gives, expert by expert."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cynosure.engine.runner import Runner, Work
from cynosure.kernels import why_none
from cynosure.kernels.linear import Way
from cynosure.kernels.memory import Arena
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import (
    ClampedMlpSpec,
    GroupRouterSpec,
    Moe,
    MoeSpec,
    SigmoidRouterSpec,
    SoftmaxRouterSpec,
    TopRouterSpec,
)
from cynosure.models.native.experts import NativeMoe, refusal_of_moe
from cynosure.models.native.graph import fix_way, use_kernels
from cynosure.models.native.layer import NativeLayer
from cynosure.models.norm import Norm, NormKind, NormSpec
from tests.models import brand_oracle, moe_oracle
from tests.models.native.test_passes import gap, steps

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

HIDDEN = 48
EXPERT = MlpSpec(24, "silu")
SPECS = {
    "mixtral": MoeSpec(5, SoftmaxRouterSpec(2), EXPERT),
    "olmoe": MoeSpec(7, SoftmaxRouterSpec(3, is_normalised=False), EXPERT),
    "qwen2": MoeSpec(6, SoftmaxRouterSpec(2), EXPERT, MlpSpec(40, "silu"), is_shared_gated=True),
    "deepseek": MoeSpec(8, GroupRouterSpec(3, 4, 2, True, 1.7), EXPERT, MlpSpec(40, "silu")),
    "top, plain": MoeSpec(4, TopRouterSpec(4), MlpSpec(24, "gelu", is_gated=False, has_bias=True)),
}


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def half(spec: MoeSpec) -> tuple[Moe, Norm]:
    """A mixture and the norm before it, with random weights."""
    torch.manual_seed(len(spec.router.__class__.__name__))
    moe, norm = Moe(spec, HIDDEN), Norm(NormSpec(NormKind.RMS, 1e-6), HIDDEN)
    for tensor in moe.state_dict().values():
        tensor.normal_(std=0.3)
    norm.weight.uniform_(0.5, 1.5)
    return moe, norm


def plain(moe: Moe, norm: Norm, x: Tensor) -> Tensor:
    return x + moe(norm(x))


@pytest.mark.parametrize("num_rows", [0, 1, 15, 16, 17, 33])
@pytest.mark.parametrize("name", SPECS)
def test_float32_equals_the_plain_one(name: str, num_rows: int) -> None:
    moe, norm = half(SPECS[name])
    native, x = NativeMoe(moe, norm, Arena()), torch.randn(num_rows, HIDDEN)
    torch.testing.assert_close(native(x), plain(moe, norm, x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_bfloat16_is_nearer_to_float32_than_the_plain_one(name: str) -> None:
    moe, norm = half(SPECS[name])
    x = torch.randn(40, HIDDEN).bfloat16()
    rounded = copy.deepcopy(moe).bfloat16()
    exact = plain(copy.deepcopy(rounded).float(), norm, x.float())
    native = NativeMoe(rounded, norm.bfloat16(), Arena())
    theirs = plain(rounded, norm, x)
    # Where the choice itself is close, roundings decide it: rows that chose alike count.
    mine, other = ((out.float() - exact).norm(dim=-1) for out in (native(x), theirs))
    assert float(mine.median()) < 1.05 * float(other.median())


@pytest.mark.parametrize("name", SPECS)
def test_a_row_gets_the_same_bits_alone_in_one_way(name: str) -> None:
    moe, norm = half(SPECS[name])
    native, x = NativeMoe(moe.bfloat16(), norm.bfloat16(), Arena()), torch.randn(20, HIDDEN).bfloat16()
    fix_way(native, Way.TILES)
    together = native(x)
    assert all(torch.equal(native(x[row : row + 1])[0], together[row]) for row in (0, 7, 19))


def test_experts_that_change_places_show() -> None:
    """The positive control of the comparisons."""
    moe, norm = half(SPECS["mixtral"])
    native, x = NativeMoe(moe, norm, Arena()), torch.randn(33, HIDDEN)
    moe.experts.each = nn.ModuleList([*moe.experts.each][::-1])
    assert not torch.allclose(native(x), plain(moe, norm, x), atol=1e-2)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (MoeSpec(2, TopRouterSpec(1), ClampedMlpSpec(8)), "stacks"),
        (MoeSpec(2, SigmoidRouterSpec(1), EXPERT), "SigmoidRouterSpec"),
        (MoeSpec(2, TopRouterSpec(1), EXPERT, weighs_inputs=True), "multiply what experts read"),
        (MoeSpec(2, TopRouterSpec(1), MlpSpec(8, "quick_gelu")), "quick_gelu"),
        (MoeSpec(2, TopRouterSpec(1), EXPERT, MlpSpec(8, "quick_gelu")), "shared layer"),
        (MoeSpec(2, TopRouterSpec(1), replace(EXPERT, sparsity=0.5)), "gates are cut"),
    ],
)
def test_what_the_call_does_not_know_is_refused_by_name(spec: MoeSpec, reason: str) -> None:
    assert reason in refusal_of_moe(Moe(spec, HIDDEN), nn.Identity())
    assert "a norm follows" in refusal_of_moe(half(SPECS["mixtral"])[0], half(SPECS["mixtral"])[1])


def graph_of(case: str, quantize: str | None = None) -> Decoder:
    pairs = moe_oracle if case in moe_oracle.CASES else brand_oracle
    graph = load(pairs.pair_of(case).folder, dtype="float32", quantize=quantize).graph
    assert isinstance(graph, Decoder)
    return graph


#: A gated shared layer beside dense layers; norms that keep attention's half plain; latent attention.
CASES = ["qwen2-moe", "olmoe", "deepseek-yarn"]


@pytest.mark.parametrize("case", CASES)
def test_models_with_experts_give_what_the_plain_modules_give(case: str) -> None:
    graph, twin = graph_of(case), graph_of(case)
    use_kernels(graph, torch.float32, "native")
    assert all(isinstance(layer, NativeLayer) and layer.mlp is not None for layer in graph.layers)
    ours, theirs = (Runner(one, one.new_paged_cache(64, 8)) for one in (graph, twin))
    assert theirs.refusal
    assert gap(steps(ours), steps(theirs)) < 1e-3


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_a_model_with_experts_is_one_program(quantize: str | None) -> None:
    graph = graph_of("mixtral", quantize)
    use_kernels(graph, torch.float32, "native")
    program, modules = (Runner(graph, graph.new_paged_cache(64, 8)) for _ in range(2))
    assert not program.refusal
    assert not program.step_refusal
    modules._passes = modules._steps = None
    ours, theirs = torch.cat(steps(program)), torch.cat(steps(modules))
    assert float((ours - theirs).norm()) < (1e-4 if quantize is None else 0.02) * float(theirs.norm())
    program.time_passes()
    program.run([Work((5,), 3, (0,), 1)])
    assert {"router", "experts"} <= {time.part for time in program.times}
