"""Transform each token by itself: plain and gated feed-forward layers. Knows nothing of attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


def _quick_gelu(x: Tensor) -> Tensor:
    """Approximate GELU by a sigmoid, as CLIP was trained with (arXiv 1606.08415, section 2)."""
    return x * (1.702 * x).sigmoid()


def _squared_relu(x: Tensor) -> Tensor:
    """Square what is above zero (Primer, arXiv 2109.08668)."""
    return functional.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_fast": partial(functional.gelu, approximate="tanh"),
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": functional.relu,
    "relu2": _squared_relu,
    "silu": functional.silu,
}


@dataclass(frozen=True)
class MlpSpec:
    """A feed-forward layer as a value: `down(act(gate(x)) * up(x))` where gated, else `down(act(up(x)))`.

    Where there is `sparsity`, that share of a token's gates, were they normal, is cut to 0, and the others
    fall by as much as the largest of those cut (Gemma 3n; arXiv 2506.06644).
    """

    intermediate_size: int
    activation: str
    is_gated: bool = True
    has_bias: bool = False
    sparsity: float = 0.0


class Mlp(nn.Module):
    """A feed-forward layer (GLU variants: arXiv 2002.05202)."""

    def __init__(self, spec: MlpSpec, hidden_size: int) -> None:
        """Hold `up`, `down` and, where gated, `gate`."""
        super().__init__()
        self.act = ACTIVATIONS[spec.activation]
        self.quantile = NormalDist().inv_cdf(spec.sparsity) if spec.sparsity else None
        self.gate = nn.Linear(hidden_size, spec.intermediate_size, spec.has_bias) if spec.is_gated else None
        self.up = nn.Linear(hidden_size, spec.intermediate_size, spec.has_bias)
        self.down = nn.Linear(spec.intermediate_size, hidden_size, spec.has_bias)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the transformed tokens."""
        if self.gate is None:
            return self.down(self.act(self.up(x)))
        return self.down(self.act(self._cut(self.gate(x))) * self.up(x))

    def _cut(self, gate: Float[Tensor, "n inner"]) -> Float[Tensor, "n inner"]:
        if self.quantile is None:
            return gate
        deviation = gate.std(-1, keepdim=True, unbiased=False)
        return functional.relu(gate - (gate.mean(-1, keepdim=True) + deviation * self.quantile))
