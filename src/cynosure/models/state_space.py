"""Mix tokens through Mamba-2's recurrence (arXiv 2405.21060). Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention.mixers import MixerInputs, MixerSpec, StateSpace, mix
from cynosure.cache import LayerShape, LayerState, StateShape
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.mixer_block import NO_KEYS, MixerBlock, mixer_state, state_shape_of
from cynosure.models.short_convolution import ShortConvolution


@dataclass(frozen=True)
class StateSpaceSpec:
    """A Mamba-2 mixer (arXiv 2405.21060, section 7).

    `num_groups` pairs of B and C are shared by neighbouring heads. `max_step` bounds the step sizes from
    above, `min_step` from below, in prompts and single tokens alike.
    """

    num_heads: int
    head_dim: int
    state_size: int
    num_groups: int
    conv_width: int
    eps: float
    has_bias: bool = False
    has_conv_bias: bool = True
    min_step: float = 0.0
    max_step: float = float("inf")

    @property
    def inner_size(self) -> int:
        """Channels of all heads together."""
        return self.num_heads * self.head_dim

    @property
    def conv_size(self) -> int:
        """Channels that the convolution mixes with their past: x, B and C."""
        return self.inner_size + 2 * self.num_groups * self.state_size

    @property
    def mixer(self) -> MixerSpec:
        """The recurrence: keys are B, queries are C, values are x."""
        return MixerSpec(StateSpace(), self.num_heads, self.state_size, self.head_dim)


class GatedGroupNorm(nn.Module):
    """Normalise what a gate let through, each group by itself, in float32."""

    def __init__(self, width: int, num_groups: int, eps: float) -> None:
        """Hold one weight a channel."""
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(
        self, x: Float[Tensor, "*lead width"], gate: Float[Tensor, "*lead width"]
    ) -> Float[Tensor, "*lead width"]:
        """Return `x` gated and normalised, in the gate's dtype."""
        wide = x.float() * nn.functional.silu(gate.float())
        groups = wide.unflatten(-1, (self.num_groups, -1))
        groups = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * groups.flatten(-2).to(gate.dtype)


@final
class StateSpaceMixer(MixerBlock):
    """Project, convolve over the last few tokens, run the recurrence, gate, project back."""

    def __init__(self, spec: StateSpaceSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections, and one rate, skip and step offset a head."""
        super().__init__()
        self.spec = spec
        self.layer = layer
        inner, conv = spec.inner_size, spec.conv_size
        self.project = nn.Linear(hidden_size, inner + conv + spec.num_heads, spec.has_bias)
        self.conv = ShortConvolution(conv, spec.conv_width, spec.has_conv_bias)
        self.log_rate = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.skip = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.step_offset = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.norm = GatedGroupNorm(inner, spec.num_groups, spec.eps)
        self.out = nn.Linear(inner, hidden_size, spec.has_bias)

    @property
    def cache_shape(self) -> LayerShape:
        """Nothing of any token."""
        return NO_KEYS

    @property
    def state_shape(self) -> StateShape:
        """The convolution's last inputs, and a matrix a head."""
        return state_shape_of(self.spec.mixer, self.spec.conv_width - 1, self.spec.conv_size)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what the tokens read of the state."""
        spec = self.spec
        gate, rest = self.project(x).split((spec.inner_size, spec.conv_size + spec.num_heads), dim=-1)
        read = forward_pass.through_states(self.layer, self.state_shape, rest, self._advance)
        return self.out(self.norm(read, gate))

    def _advance(
        self, rest: Float[Tensor, "batch tokens width"], state: LayerState, is_start: bool
    ) -> tuple[Float[Tensor, "batch tokens inner"], LayerState]:
        """Go on from a state; what is read stays in float32, in which it is gated."""
        spec = self.spec
        mixed, steps = rest.split((spec.conv_size, spec.num_heads), dim=-1)
        mixed, tail = self.conv(mixed, state.tail)
        width = spec.num_groups * spec.state_size
        values, keys, queries = nn.functional.silu(mixed).split((spec.inner_size, width, width), dim=-1)
        values = values.unflatten(-1, (spec.num_heads, spec.head_dim))
        # Steps are rates of change: rounded to 16 bits, their sums would drift over a long text.
        steps = nn.functional.softplus(steps + self.step_offset).float().clamp(spec.min_step, spec.max_step)
        inputs = MixerInputs(
            values.float(),
            queries.unflatten(-1, (spec.num_groups, spec.state_size)),
            keys.unflatten(-1, (spec.num_groups, spec.state_size)),
            -self.log_rate.float().exp() * steps,
            steps,
        )
        read, after = mix(spec.mixer, inputs, mixer_state(spec.mixer, state, is_start=is_start))
        read = read + self.skip.float().unsqueeze(-1) * values.float()
        return read.flatten(-2), LayerState(tail, after.matrix)
