"""Mix tokens by the gated delta rule (arXiv 2412.06464), as Qwen3-Next. Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention.mixers import GatedDelta, MixerInputs, MixerSpec, mix
from cynosure.cache import LayerShape, LayerState, StateShape
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.mixer_block import NO_KEYS, MixerBlock, mixer_state, state_shape_of
from cynosure.models.short_convolution import ShortConvolution


@dataclass(frozen=True)
class GatedDeltaSpec:
    """A mixer whose state recalls by key; neighbouring heads of values share one of keys and queries."""

    num_heads: int
    num_key_heads: int
    key_dim: int
    value_dim: int
    conv_width: int
    eps: float

    @property
    def key_size(self) -> int:
        """Channels of all keys together, and of all queries."""
        return self.num_key_heads * self.key_dim

    @property
    def value_size(self) -> int:
        """Channels of all values together."""
        return self.num_heads * self.value_dim

    @property
    def conv_size(self) -> int:
        """Channels that the convolution mixes with their past: queries, keys, values."""
        return 2 * self.key_size + self.value_size

    @property
    def mixer(self) -> MixerSpec:
        """The recurrence."""
        return MixerSpec(GatedDelta(), self.num_heads, self.key_dim, self.value_dim)


class HeadGates(nn.Module):
    """What writes to each head's state and what decays it; like a router's, the weight is never in codes."""

    def __init__(self, num_heads: int, hidden_size: int) -> None:
        """Hold two rows a head, those that write first."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * num_heads, hidden_size), requires_grad=False)

    def forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n gates"]:
        """Return each token's gates, before any activation."""
        return nn.functional.linear(x, self.weight)


class HeadNorm(nn.Module):
    """Normalise each head in float32, then gate it."""

    def __init__(self, width: int, eps: float) -> None:
        """Hold one weight a channel, which all heads share."""
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(
        self, x: Float[Tensor, "*lead width"], gate: Float[Tensor, "*lead width"]
    ) -> Float[Tensor, "*lead width"]:
        """Return `x` normalised and gated, in the gate's dtype."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * wide.to(gate.dtype) * nn.functional.silu(gate.float())).to(gate.dtype)


@final
class GatedDeltaMixer(MixerBlock):
    """Project, convolve over the last few tokens, recall and write, normalise and gate, project back."""

    def __init__(self, spec: GatedDeltaSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections, and one rate and offset a head."""
        super().__init__()
        self.spec = spec
        self.layer = layer
        self.project = nn.Linear(hidden_size, spec.conv_size, bias=False)
        self.gate = nn.Linear(hidden_size, spec.value_size, bias=False)
        self.gates = HeadGates(spec.num_heads, hidden_size)
        self.conv = ShortConvolution(spec.conv_size, spec.conv_width, has_bias=False)
        self.log_rate = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.decay_offset = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.norm = HeadNorm(spec.value_dim, spec.eps)
        self.out = nn.Linear(spec.value_size, hidden_size, bias=False)

    @property
    def cache_shape(self) -> LayerShape:
        """Nothing of any token."""
        return NO_KEYS

    @property
    def state_shape(self) -> StateShape:
        """The convolution's last inputs, and a matrix a head."""
        return state_shape_of(self.spec.mixer, self.spec.conv_width - 1, self.spec.conv_size)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what the tokens recall."""
        inputs = torch.cat((self.project(x), self.gates(x)), dim=-1)
        recalled = forward_pass.through_states(self.layer, self.state_shape, inputs, self._advance)
        heads = (self.spec.num_heads, self.spec.value_dim)
        return self.out(
            self.norm(recalled.unflatten(-1, heads), self.gate(x).unflatten(-1, heads)).flatten(-2)
        )

    def _advance(
        self, inputs: Float[Tensor, "batch tokens width"], state: LayerState, is_start: bool
    ) -> tuple[Float[Tensor, "batch tokens values"], LayerState]:
        """Go on from a state."""
        spec = self.spec
        mixed, write, decay = inputs.split((spec.conv_size, spec.num_heads, spec.num_heads), dim=-1)
        mixed, tail = self.conv(mixed, state.tail)
        parts = nn.functional.silu(mixed).split((spec.key_size, spec.key_size, spec.value_size), dim=-1)
        queries, keys = (part.unflatten(-1, (spec.num_key_heads, spec.key_dim)) for part in parts[:2])
        # In 16 bits a rate could not be told from 0, and its sums would drift.
        steps = nn.functional.softplus(decay.float() + self.decay_offset.float())
        mixer_inputs = MixerInputs(
            parts[2].unflatten(-1, (spec.num_heads, spec.value_dim)),
            queries,
            keys,
            -self.log_rate.float().exp() * steps,
            write.sigmoid(),
        )
        read, after = mix(spec.mixer, mixer_inputs, mixer_state(spec.mixer, state, is_start=is_start))
        return read.flatten(-2), LayerState(tail, after.matrix)
