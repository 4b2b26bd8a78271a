"""Run a feed-forward layer of an encoder in two native calls. Knows nothing of norms or residuals."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.kernels.memory import Arena
from cynosure.models.mlp import Mlp
from cynosure.models.native_linear import KERNEL_ACTIVATIONS, NativeLinear, Packable, refusal_of_parts


@final
class NativeFeedForward(nn.Module):
    """`down(act(up(x)))`, or `down(act(gate(x)) * up(x))` where there is a gate."""

    def __init__(self, mlp: Mlp, activation: str, arena: Arena) -> None:
        """Pack gate and up together, then down; `refusal_of_feed_forward` was empty."""
        super().__init__()
        parts = [part for part in (mlp.gate, mlp.up) if isinstance(part, Packable)]
        down = [part for part in (mlp.down,) if isinstance(part, Packable)]
        self.inner = NativeLinear(parts, arena=arena, activation=activation, is_gated=len(parts) == 2)
        self.down = NativeLinear(down, arena=arena)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the transformed tokens."""
        return self.down(self.inner(x))


def refusal_of_feed_forward(mlp: nn.Module, activation: str) -> str:
    """Say why a layer is no pair of native calls; empty where it is one."""
    if not isinstance(mlp, Mlp):
        return f"{type(mlp).__name__} is run as it is, on native projections"
    if activation not in KERNEL_ACTIVATIONS:
        return f"the kernels have no activation {activation!r}"
    parts = [part for part in (mlp.gate, mlp.up) if part is not None]
    return refusal_of_parts(parts) or refusal_of_parts([mlp.down])
