"""Take steps with orthogonal updates: Muon for the layers' matrices, AdamW for the rest. Knows no model.

Where a run is short, an update whose directions all have one length learns more from a batch than AdamW's
(Jordan et al. 2024, "Muon"; scaled as in arXiv 2502.16982, so that both kinds take the same rate).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

#: Of the quintic iteration; it brings singular values near 1 in five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
MOMENTUM = 0.95
BETAS = (0.9, 0.95)
EPS = 1e-8


class Muon(torch.optim.Optimizer):
    """Orthogonal updates for the matrices of layers, AdamW for embeddings and vectors.

    State has the names of AdamW's, so that a checkpoint of either is written alike.
    """

    def __init__(self, module: nn.Module, rate: float, decay: float) -> None:
        """Part what is to be learned; vectors do not decay."""
        learned = [(name, one) for name, one in module.named_parameters() if one.requires_grad]
        matrices = [one for name, one in learned if one.dim() == 2 and "embed" not in name]
        tables = [one for name, one in learned if one.dim() == 2 and "embed" in name]
        vectors = [one for _, one in learned if one.dim() != 2]
        groups = [
            {"params": matrices, "weight_decay": decay, "is_orthogonal": True},
            {"params": tables, "weight_decay": decay, "is_orthogonal": False},
            {"params": vectors, "weight_decay": 0.0, "is_orthogonal": False},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        assert closure is None, "the loop computes the gradients"
        for group in self.param_groups:
            learned = [one for one in group["params"] if one.grad is not None]
            for parameter in learned:
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    size = (1,) if group["is_orthogonal"] else parameter.shape
                    state["exp_avg_sq"] = parameter.new_zeros(size)
                state["step"] += 1
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if group["is_orthogonal"]:
                self._orthogonal_steps(learned, group["lr"])
            else:
                for parameter in learned:
                    _adam_step(parameter, _gradient(parameter), self.state[parameter], group["lr"])

    def _orthogonal_steps(self, matrices: Sequence[Tensor], rate: float) -> None:
        """Move matrices of one shape together: many small products take longer than a few large ones."""
        alike: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            alike.setdefault(matrix.shape, []).append(matrix)
        for shape, group in alike.items():
            gradients = torch.stack([_gradient(one) for one in group])
            momenta = [self.state[one]["exp_avg"] for one in group]
            for momentum, gradient in zip(momenta, gradients, strict=True):
                momentum.lerp_(gradient, 1 - MOMENTUM)
            updates = orthogonal(gradients.lerp_(torch.stack(momenta), MOMENTUM))
            # An entry of the update is then as large as one of AdamW's usually is.
            scale = -rate * 0.2 * max(shape) ** 0.5
            for matrix, update in zip(group, updates, strict=True):
                matrix.add_(update, alpha=scale)


def orthogonal(matrices: Float[Tensor, "count rows columns"]) -> Float[Tensor, "count rows columns"]:
    """The matrices with their singular values brought near 1, in bfloat16: the direction is what counts."""
    first, second, third = QUINTIC
    x = matrices.bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        inner = torch.baddbmm(square, square, square, beta=second, alpha=third)
        x = torch.baddbmm(x, inner, x, beta=first)
    return (x.mT if is_tall else x).to(matrices.dtype)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "chosen by its gradient"
    return parameter.grad


def _adam_step(parameter: Tensor, gradient: Tensor, state: dict[str, Any], rate: float) -> None:
    count, (low, high) = float(state["step"]), BETAS
    mean = state["exp_avg"].lerp_(gradient, 1 - low) / (1 - low**count)
    square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - high) / (1 - high**count)
    parameter.addcdiv_(mean, square.sqrt().add_(EPS), value=-rate)
