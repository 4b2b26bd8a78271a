"""Run a feed-forward half that is a mixture of experts, all experts in one native call. Knows no attention.

    logits = router(norm(x));  x = x + shared(norm(x)) + sum of weight * expert(norm(x)) over those chosen

`models/moe.py` is the plain twin: it runs the experts one after the other.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.kernels.experts import CExpertsCall, CRouting, PackedExperts, Router
from cynosure.kernels.linear import Activation, Way
from cynosure.kernels.memory import Arena
from cynosure.models.mlp import Mlp, MlpSpec
from cynosure.models.moe import (
    Gate,
    GroupRouter,
    GroupRouterSpec,
    Moe,
    PlainExperts,
    RouterSpec,
    SoftmaxRouter,
    SoftmaxRouterSpec,
    TopRouter,
    TopRouterSpec,
)
from cynosure.models.native.mlp import NativeMlp, mlp_refusal, packed_halves
from cynosure.models.native_linear import (
    FLOAT_TYPES,
    KERNEL_ACTIVATIONS,
    NativeLinear,
    Prologue,
    refusal_of_parts,
)
from cynosure.models.norm import Norm


def refusal_of_moe(moe: Moe, post_norm: nn.Module) -> str:
    """Say why a mixture is no native half; empty where it is one."""
    spec, experts = moe.spec, moe.experts
    if not isinstance(experts, PlainExperts) or not isinstance(spec.expert, MlpSpec):
        return "its experts are kept in stacks; they are run one after the other"
    if not isinstance(spec.router, TopRouterSpec | SoftmaxRouterSpec | GroupRouterSpec):
        return f"the kernels know no {type(spec.router).__name__}"
    if spec.weighs_inputs:
        return "its weights multiply what experts read; they are run one after the other"
    if spec.expert.sparsity:
        return "its gates are cut; its experts are run one after the other"
    if not isinstance(post_norm, nn.Identity):
        return "a norm follows its experts; they are run one after the other"
    shared = spec.shared
    if shared is not None and moe.shared is not None:
        reason = mlp_refusal(moe.shared, shared.activation)
        if reason or shared.sparsity:
            return f"of its shared layer: {reason or 'its gates are cut'}"
    each = [mlp for mlp in experts.each if isinstance(mlp, Mlp)]
    reasons = [mlp_refusal(mlp, spec.expert.activation) for mlp in each]
    # One call reads them all: what is packed alike.
    firsts, lasts = [mlp.up for mlp in each], [mlp.down for mlp in each]
    return next(
        (reason for reason in (*reasons, refusal_of_parts(firsts), refusal_of_parts(lasts)) if reason), ""
    )


@final
class NativeMoe(nn.Module):
    """The feed-forward half of a layer: `x + moe(norm(x))`.

    `router` and `gate` (of the shared layer, where it has one) give logits, which are taken in float32.
    """

    def __init__(self, moe: Moe, norm: Norm, arena: Arena) -> None:
        """Pack the router and every expert; `refusal_of_moe` was empty."""
        super().__init__()
        experts, expert = moe.experts, moe.spec.expert
        assert isinstance(experts, PlainExperts)
        assert isinstance(expert, MlpSpec)
        self.num_experts, self.num_chosen = moe.spec.num_experts, moe.spec.router.num_chosen
        self.router = NativeLinear([_linear_of(moe.router)], arena=arena, norm=norm)
        halves = [
            packed_halves(mlp, expert.activation, arena) for mlp in experts.each if isinstance(mlp, Mlp)
        ]
        self.inner, self.down = (nn.ModuleList(half) for half in zip(*halves, strict=True))
        self.packed = PackedExperts(
            [inner.packed for inner, _ in halves], [down.packed for _, down in halves]
        )
        self.has_one_way = halves[0][0].has_one_way
        self.shared = self.gate = None
        if moe.shared is not None and moe.spec.shared is not None:
            self.shared = NativeMlp(moe.shared, moe.spec.shared.activation, norm, nn.Identity(), arena)
        if moe.shared_gate is not None:
            self.gate = NativeLinear([_linear_of(moe.shared_gate)], arena=arena, norm=norm)
        self._norm = Prologue.of(norm)
        # Kept alive: the call holds its address.
        self._correction = moe.router.correction.float() if isinstance(moe.router, GroupRouter) else None
        self._template = self._new_template(moe.spec.router, KERNEL_ACTIVATIONS[expert.activation])

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this half."""
        rows, logits = x.contiguous(), self.router.products(x)
        num_rows, hidden = rows.shape
        shared = None if self.shared is None else self.shared.down(self.shared.inner(rows))
        gate = None if self.gate is None else self.gate.products(rows)
        out = torch.empty_like(rows)
        chosen = torch.empty(num_rows, self.num_chosen, dtype=torch.int64)
        weights = torch.empty(num_rows, self.num_chosen)
        call = self.call()
        call.num_rows, call.way, call.type = num_rows, max(self.router.way, self._way), FLOAT_TYPES[x.dtype]
        call.x = call.residual = rows.data_ptr()
        call.out, call.logits = out.data_ptr(), logits.data_ptr()
        call.x_stride = call.residual_stride = call.out_stride = hidden
        if shared is not None:
            call.shared, call.shared_stride = shared.data_ptr(), hidden
        call.shared_gate = None if gate is None else gate.data_ptr()
        call.chosen, call.weights = chosen.data_ptr(), weights.data_ptr()
        self.packed.run(call)
        return out

    def call(self) -> CExpertsCall:
        """Return a call that lacks rows and addresses."""
        return CExpertsCall.from_buffer_copy(self._template)

    @property
    def _way(self) -> Way:
        first = self.inner[0]
        assert isinstance(first, NativeLinear)
        return first.way

    def _new_template(self, router: RouterSpec, activation: Activation) -> CExpertsCall:
        call, norm = CExpertsCall(), self._norm
        call.norm, call.norm_eps, call.norm_weight = norm.kind, norm.eps, norm.weight.data_ptr()
        call.norm_bias = None if norm.bias is None else norm.bias.data_ptr()
        call.activation = activation
        routing = CRouting(num_experts=self.num_experts, num_chosen=self.num_chosen, num_groups=1)
        routing.num_chosen_groups, routing.scale = 1, 1.0
        match router:
            case TopRouterSpec():
                routing.kind = Router.TOP
            case SoftmaxRouterSpec():
                routing.kind, routing.is_normalised = Router.SOFTMAX, router.is_normalised
            case GroupRouterSpec():
                routing.kind, routing.is_normalised, routing.scale = (
                    Router.GROUPS,
                    router.is_normalised,
                    router.scale,
                )
                routing.num_groups, routing.num_chosen_groups = router.num_groups, router.num_chosen_groups
                assert self._correction is not None
                routing.correction = self._correction.data_ptr()
        call.routing = routing
        return call


def _linear_of(router: nn.Module) -> nn.Linear:
    """Return what a router, or a gate, multiplies by as a layer that can be packed."""
    assert isinstance(router, TopRouter | SoftmaxRouter | GroupRouter | Gate)
    num_rows, width = router.weight.shape
    with torch.device("meta"):
        linear = nn.Linear(width, num_rows, isinstance(router, TopRouter))
    linear.weight = router.weight
    if isinstance(router, TopRouter):
        linear.bias = router.bias
    return linear
