"""Experts that run on their own tokens alone give what a dense sum over all experts gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from cynosure.core.errors import CheckpointCorrupt
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import (
    ClampedMlpSpec,
    GroupRouter,
    GroupRouterSpec,
    Moe,
    MoeSpec,
    Routes,
    TopRouterSpec,
)
from cynosure.models.mxfp4 import dequantise

HIDDEN = 12
SPECS = {
    "gpt-oss": MoeSpec(6, TopRouterSpec(3), ClampedMlpSpec(10, limit=0.8)),
    "deepseek": MoeSpec(8, GroupRouterSpec(3, 4, 2, True, 1.7), MlpSpec(10, "silu"), MlpSpec(20, "silu")),
    "one group": MoeSpec(5, GroupRouterSpec(2, is_normalised=False), MlpSpec(10, "silu")),
    "all experts": MoeSpec(3, TopRouterSpec(3), MlpSpec(10, "relu", is_gated=False)),
}


def filled(spec: MoeSpec) -> Moe:
    moe = Moe(spec, HIDDEN)
    with torch.no_grad():
        for tensor in moe.state_dict().values():
            tensor.normal_(std=0.7)
    return moe


def dense(moe: Moe, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
    """Every expert runs on every token; those not chosen have a weight of 0."""
    routes = moe.router(x)
    weights = torch.zeros(x.shape[0], moe.spec.num_experts).scatter(1, routes.experts, routes.weights)
    every = torch.stack([moe.experts(x, expert) for expert in range(moe.spec.num_experts)], 1)
    out = (weights[..., None] * every).sum(1)
    return out if moe.shared is None else out + moe.shared(x)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("num_tokens", [0, 1, 33])
@torch.no_grad()
def test_grouped_tokens_equal_a_dense_sum(name: str, num_tokens: int) -> None:
    moe, x = filled(SPECS[name]), torch.randn(num_tokens, HIDDEN)
    torch.testing.assert_close(moe(x), dense(moe, x))


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_weights_given_to_the_wrong_expert_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moe, x = filled(SPECS[name]), torch.randn(33, HIDDEN)
    right = dense(moe, x)
    choose = moe.router.forward

    def swapped(x: Float[Tensor, "n hidden"]) -> Routes:
        routes = choose(x)
        return Routes(routes.experts, routes.weights.flip(-1))

    monkeypatch.setattr(moe.router, "forward", swapped)
    assert not torch.allclose(moe(x), right, atol=1e-2)


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_a_token_gets_the_same_alone(name: str) -> None:
    moe, x = filled(SPECS[name]), torch.randn(33, HIDDEN)
    torch.testing.assert_close(torch.cat([moe(row[None]) for row in x]), moe(x))


@torch.no_grad()
def test_logits_of_the_chosen_alone_share_the_weight() -> None:
    moe, x = filled(SPECS["gpt-oss"]), torch.randn(20, HIDDEN)
    routes = moe.router(x)
    logits = x @ moe.router.weight.T + moe.router.bias
    torch.testing.assert_close(routes.weights.sum(-1), torch.ones(20))
    for row, experts, weights in zip(logits, routes.experts, routes.weights, strict=True):
        assert set(experts.tolist()) == set(row.argsort(descending=True)[:3].tolist())
        torch.testing.assert_close(weights, row[experts].exp() / row[experts].exp().sum())


def _group_router(spec: GroupRouterSpec) -> GroupRouter:
    """Expert i's score is the sigmoid of the token's i-th channel."""
    router = GroupRouter(spec, 6, 6)
    with torch.no_grad():
        router.weight.copy_(torch.eye(6))
        router.correction.zero_()
    return router


@torch.no_grad()
def test_experts_outside_of_the_chosen_groups_never_serve() -> None:
    # The best expert (4) stands in the group whose best two are the weaker sum.
    x = torch.tensor([[1.0, 1.2, 0.0, 0.1, 2.0, -9.0]])
    spec = GroupRouterSpec(num_chosen=2, num_groups=3, num_chosen_groups=1)
    assert set(_group_router(spec)(x).experts[0].tolist()) == {0, 1}
    assert set(_group_router(replace(spec, num_chosen_groups=3))(x).experts[0].tolist()) == {1, 4}


@torch.no_grad()
def test_a_correction_chooses_but_does_not_weigh() -> None:
    x = torch.tensor([[1.0, 1.2, 0.0, 0.1, 2.0, -9.0]])
    router = _group_router(GroupRouterSpec(num_chosen=2, scale=3.0))
    router.correction[5] = 10.0
    routes = router(x)
    assert routes.experts[0].tolist() == [5, 4]
    scores = x.sigmoid()[0, [5, 4]]
    torch.testing.assert_close(routes.weights[0], 3.0 * scores / scores.sum())


@torch.no_grad()
def test_clamped_experts_by_hand() -> None:
    moe = filled(MoeSpec(1, TopRouterSpec(1), ClampedMlpSpec(1, alpha=1.702, limit=7.0)))
    moe.experts.gate_up.zero_()
    moe.experts.down.fill_(1.0)
    moe.experts.down_bias.zero_()
    for gate, up in [(9.0, -9.0), (-9.0, 9.0), (0.5, 0.25)]:
        moe.experts.gate_up_bias.copy_(torch.tensor([[gate, up]]))
        g, u = min(gate, 7.0), max(min(up, 7.0), -7.0)
        expected = (u + 1) * g * torch.sigmoid(torch.tensor(1.702 * g))
        torch.testing.assert_close(moe(torch.zeros(1, HIDDEN)), expected.expand(1, HIDDEN))


def test_mxfp4_codes() -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 1, 16)
    scales = torch.randint(100, 150, (2, 8, 1), dtype=torch.uint8)
    ours = dequantise(codes, scales, torch.bfloat16)
    assert ours.transpose(1, 2).equal(convert_moe_packed_tensors(codes, scales))
    # 0x2A: the low half is 1010, minus 1; the high half is 0010, plus 1.
    one = dequantise(
        torch.full((1, 16), 0x2A, dtype=torch.uint8), torch.tensor([128], dtype=torch.uint8), torch.float32
    )
    assert one[:2].tolist() == [-2.0, 2.0]


def test_an_mxfp4_scale_that_is_no_number_is_refused() -> None:
    with pytest.raises(CheckpointCorrupt, match="255"):
        dequantise(
            torch.zeros(1, 16, dtype=torch.uint8), torch.tensor([255], dtype=torch.uint8), torch.float32
        )
