"""Send each token through a few of many feed-forward layers. Knows nothing of attention or checkpoints.

Four designs: Mixtral (arXiv 2401.04088), GPT-OSS (model card, arXiv 2508.10925), DeepSeek-V3 (arXiv
2412.19437, section 2.1.2) and Llama 4 (model card).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.mlp import Mlp, MlpSpec


@dataclass(frozen=True)
class TopRouterSpec:
    """The `num_chosen` largest logits, and the softmax over those alone (GPT-OSS)."""

    num_chosen: int


@dataclass(frozen=True)
class SoftmaxRouterSpec:
    """The `num_chosen` largest of the softmax over all, divided by their sum where `is_normalised`."""

    num_chosen: int
    is_normalised: bool = True


@dataclass(frozen=True)
class SoftmaxGroupRouterSpec:
    """The `num_chosen` largest of the softmax over all within the best `num_chosen_groups` of `num_groups`.

    DeepSeek-V2 (arXiv 2405.04434, section 2.2.2): a group ranks by its best expert. Weights stay as they are,
    multiplied by `scale`.
    """

    num_chosen: int
    num_groups: int = 1
    num_chosen_groups: int = 1
    scale: float = 1.0


@dataclass(frozen=True)
class GroupRouterSpec:
    """The `num_chosen` largest sigmoids within the best `num_chosen_groups` of `num_groups` (DeepSeek-V3).

    A group ranks by its two best experts. A learned correction takes part in every ranking and in no weight.
    Weights are divided by their sum where `is_normalised`, then multiplied by `scale`.
    """

    num_chosen: int
    num_groups: int = 1
    num_chosen_groups: int = 1
    is_normalised: bool = True
    scale: float = 1.0


@dataclass(frozen=True)
class SigmoidRouterSpec:
    """The `num_chosen` largest logits, each by its own sigmoid (Llama 4)."""

    num_chosen: int


@dataclass(frozen=True)
class ClampedMlpSpec:
    """GPT-OSS's expert: `down((up + 1) * gate * sigmoid(alpha * gate))`, gate and up clamped at `limit`."""

    intermediate_size: int
    alpha: float = 1.702
    limit: float = 7.0


SoftmaxSpec: TypeAlias = SoftmaxRouterSpec | SoftmaxGroupRouterSpec
RouterSpec: TypeAlias = TopRouterSpec | SoftmaxSpec | GroupRouterSpec | SigmoidRouterSpec


@dataclass(frozen=True)
class MoeSpec:
    """A mixture of experts as a value.

    `shared` is a layer that every token takes besides; where `is_shared_gated` (Qwen2-MoE), its share is
    the sigmoid of a projection of the token. Where it `weighs_inputs` (Llama 4), weights multiply what
    experts read, not what they give.
    """

    num_experts: int
    router: RouterSpec
    expert: MlpSpec | ClampedMlpSpec
    shared: MlpSpec | None = None
    is_shared_gated: bool = False
    weighs_inputs: bool = False


class Routes(NamedTuple):
    """The experts of each token, and the weight of what each gives."""

    experts: Int[Tensor, "n chosen"]
    weights: Float[Tensor, "n chosen"]


class TopRouter(nn.Module):
    """Score experts by a projection with a bias."""

    def __init__(self, spec: TopRouterSpec, num_experts: int, hidden_size: int) -> None:
        """Hold a row and a bias an expert."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(num_experts), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Routes:
        """Choose."""
        logits, experts = functional.linear(x, self.weight, self.bias).topk(self.spec.num_chosen, -1)
        return Routes(experts, logits.softmax(-1))


class SoftmaxRouter(nn.Module):
    """Score experts by a softmax over all, in float32."""

    def __init__(self, spec: SoftmaxRouterSpec, num_experts: int, hidden_size: int) -> None:
        """Hold a row an expert."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Routes:
        """Choose."""
        shares = functional.linear(x, self.weight).float().softmax(-1)
        weights, experts = shares.topk(self.spec.num_chosen, -1)
        if self.spec.is_normalised:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routes(experts, weights.to(x.dtype))


class SoftmaxGroupRouter(nn.Module):
    """Score experts by a softmax over all, in float32 from the logits on."""

    def __init__(self, spec: SoftmaxGroupRouterSpec, num_experts: int, hidden_size: int) -> None:
        """Hold a row an expert."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Routes:
        """Choose groups, then experts within them."""
        spec = self.spec
        shares = functional.linear(x.float(), self.weight.float()).softmax(-1)
        if spec.num_chosen_groups < spec.num_groups:
            groups = shares.unflatten(-1, (spec.num_groups, -1))
            best = groups.amax(-1).topk(spec.num_chosen_groups, -1).indices
            kept = torch.zeros(groups.shape[:2], dtype=torch.bool, device=x.device).scatter(1, best, True)
            shares = (groups * kept[..., None]).flatten(1)
        weights, experts = shares.topk(spec.num_chosen, -1)
        return Routes(experts, (weights * spec.scale).to(x.dtype))


class SigmoidRouter(nn.Module):
    """Score experts by a projection; a sigmoid in float32 weighs those chosen."""

    def __init__(self, spec: SigmoidRouterSpec, num_experts: int, hidden_size: int) -> None:
        """Hold a row an expert."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Routes:
        """Choose."""
        logits, experts = functional.linear(x, self.weight).topk(self.spec.num_chosen, -1)
        return Routes(experts, logits.float().sigmoid().to(x.dtype))


class GroupRouter(nn.Module):
    """Score experts by a sigmoid each, in float32."""

    correction: Tensor

    def __init__(self, spec: GroupRouterSpec, num_experts: int, hidden_size: int) -> None:
        """Hold a row and a correction an expert; the correction stays float32 in every model."""
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(num_experts, hidden_size), requires_grad=False)
        self.register_buffer("correction", torch.empty(num_experts, dtype=torch.float32))

    def forward(self, x: Float[Tensor, "n hidden"]) -> Routes:
        """Choose groups, then experts within them."""
        spec = self.spec
        scores = functional.linear(x.float(), self.weight.float()).sigmoid()
        ranks = (scores + self.correction).unflatten(-1, (spec.num_groups, -1))
        if spec.num_chosen_groups < spec.num_groups:
            best = ranks.topk(2, -1).values.sum(-1).topk(spec.num_chosen_groups, -1).indices
            is_left_out = torch.ones(ranks.shape[:2], dtype=torch.bool, device=x.device).scatter(
                1, best, False
            )
            ranks = ranks.masked_fill(is_left_out[..., None], float("-inf"))
        experts = ranks.flatten(1).topk(spec.num_chosen, -1).indices
        weights = scores.gather(1, experts)
        if spec.is_normalised:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return Routes(experts, weights * spec.scale)


class PlainExperts(nn.Module):
    """Ordinary feed-forward layers, each with tensors of its own."""

    def __init__(self, spec: MlpSpec, num_experts: int, hidden_size: int) -> None:
        """Hold the layers."""
        super().__init__()
        self.each = nn.ModuleList(Mlp(spec, hidden_size) for _ in range(num_experts))

    def forward(self, x: Float[Tensor, "n hidden"], expert: int) -> Float[Tensor, "n hidden"]:
        """Return what one expert makes of `x`."""
        return self.each[expert](x)


class ClampedExperts(nn.Module):
    """GPT-OSS's experts in stacked tensors, stored input first; gate and up take turns as columns."""

    def __init__(self, spec: ClampedMlpSpec, num_experts: int, hidden_size: int) -> None:
        """Hold the stacks as checkpoints have them, so that a file's memory map serves."""
        super().__init__()
        self.spec = spec
        width = spec.intermediate_size

        def stack(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(num_experts, *shape), requires_grad=False)

        self.gate_up, self.gate_up_bias = stack(hidden_size, 2 * width), stack(2 * width)
        self.down, self.down_bias = stack(width, hidden_size), stack(hidden_size)

    def forward(self, x: Float[Tensor, "n hidden"], expert: int) -> Float[Tensor, "n hidden"]:
        """Return what one expert makes of `x`."""
        both = x @ self.gate_up[expert] + self.gate_up_bias[expert]
        gate = both[..., 0::2].clamp(max=self.spec.limit)
        up = both[..., 1::2].clamp(-self.spec.limit, self.spec.limit)
        inner = (up + 1) * gate * torch.sigmoid(gate * self.spec.alpha)
        return inner @ self.down[expert] + self.down_bias[expert]


class Gate(nn.Module):
    """Weigh a layer by the sigmoid of one projection; like a router's, its weight is never kept in codes."""

    def __init__(self, hidden_size: int) -> None:
        """Hold the row."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, hidden_size), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n 1"]:
        """Return each token's share."""
        return functional.linear(x, self.weight).sigmoid()


def _router(spec: RouterSpec, num_experts: int, hidden_size: int) -> nn.Module:
    match spec:
        case TopRouterSpec():
            return TopRouter(spec, num_experts, hidden_size)
        case SoftmaxRouterSpec():
            return SoftmaxRouter(spec, num_experts, hidden_size)
        case SoftmaxGroupRouterSpec():
            return SoftmaxGroupRouter(spec, num_experts, hidden_size)
        case GroupRouterSpec():
            return GroupRouter(spec, num_experts, hidden_size)
        case SigmoidRouterSpec():
            return SigmoidRouter(spec, num_experts, hidden_size)


class Moe(nn.Module):
    """A router, its experts, and the layer that all tokens share where there is one."""

    def __init__(self, spec: MoeSpec, hidden_size: int) -> None:
        """Hold the parts."""
        super().__init__()
        self.spec = spec
        sizes = (spec.num_experts, hidden_size)
        expert = spec.expert
        self.router = _router(spec.router, *sizes)
        self.experts = (
            PlainExperts(expert, *sizes) if isinstance(expert, MlpSpec) else ClampedExperts(expert, *sizes)
        )
        self.shared = None if spec.shared is None else Mlp(spec.shared, hidden_size)
        self.shared_gate = Gate(hidden_size) if spec.is_shared_gated else None

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the weighted sum of what each token's experts give; each expert runs once."""
        routes = self.router(x)
        out = torch.zeros_like(x) if self.shared is None else self.shared(x)
        if self.shared_gate is not None:
            out = out * self.shared_gate(x)
        for expert in routes.experts.unique().tolist():
            tokens, places = (routes.experts == expert).nonzero(as_tuple=True)
            rows, weights = x[tokens], routes.weights[tokens, places, None]
            if self.spec.weighs_inputs:
                given = self.experts(rows * weights, expert)
            else:
                given = self.experts(rows, expert) * weights
            out.index_add_(0, tokens, given.to(out.dtype))
        return out
