"""Run the feed-forward half of a layer in two native calls. Knows nothing of attention."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.kernels.memory import Arena
from cynosure.models.mlp import Mlp
from cynosure.models.native_linear import KERNEL_ACTIVATIONS, NativeLinear, Packable, refusal_of_parts
from cynosure.models.norm import Norm


@final
class NativeMlp(nn.Module):
    """The feed-forward half of a layer: `x + post_norm(down(act(gate(norm(x))) * up(norm(x))))`."""

    def __init__(self, mlp: Mlp, activation: str, norm: Norm, post_norm: nn.Module, arena: Arena) -> None:
        """Pack gate and up together, then down."""
        super().__init__()
        self.inner, self.down = packed_halves(mlp, activation, arena, norm)
        self.post_norm = None if isinstance(post_norm, nn.Identity) else post_norm

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this half."""
        inner = self.inner(x)
        return self.down(inner, x) if self.post_norm is None else x + self.post_norm(self.down(inner))


def packed_halves(
    mlp: Mlp, activation: str, arena: Arena, norm: Norm | None = None
) -> tuple[NativeLinear, NativeLinear]:
    """Pack gate and up, whose input `norm` is taken of, and down."""
    parts = packable(mlp.up) if mlp.gate is None else packable(mlp.gate, mlp.up)
    is_gated = mlp.gate is not None
    inner = NativeLinear(parts, arena=arena, norm=norm, activation=activation, is_gated=is_gated)
    return inner, NativeLinear(packable(mlp.down), arena=arena)


def mlp_refusal(mlp: nn.Module, activation: str | None) -> str:
    """Say why a feed-forward layer is no two calls; empty where it is."""
    if not isinstance(mlp, Mlp):
        return f"{type(mlp).__name__} is run as it is, on native projections"
    if activation not in KERNEL_ACTIVATIONS:
        return f"the kernels have no activation {activation!r}"
    parts = [part for part in (mlp.gate, mlp.up) if part is not None]
    return refusal_of_parts(parts) or refusal_of_parts([mlp.down])


def packable(*parts: nn.Module) -> list[Packable]:
    """Narrow the types of parts that were asked about before."""
    return [part for part in parts if isinstance(part, Packable)]
