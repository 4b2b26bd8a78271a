"""Mix tokens through Griffin's RG-LRU (arXiv 2402.19427, section 2.4). Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention.mixers import MixerInputs, MixerSpec, RealGated, mix
from cynosure.cache import LayerShape, LayerState, StateShape
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.mixer_block import NO_KEYS, MixerBlock, mixer_state, state_shape_of
from cynosure.models.mlp import ACTIVATIONS
from cynosure.models.short_convolution import ShortConvolution

#: How fast a channel forgets at most: the constant c of the paper.
FASTEST = 8.0


@dataclass(frozen=True)
class RealGatedSpec:
    """Griffin's recurrent block: `width` channels, whose gates are computed in `num_blocks` blocks."""

    width: int
    num_blocks: int
    conv_width: int
    activation: str

    @property
    def mixer(self) -> MixerSpec:
        """The recurrence: a head a channel."""
        return MixerSpec(RealGated(), self.width, 1, 1)


class BlockGate(nn.Module):
    """The sigmoid of a projection in blocks, each of which sees its own channels; never in codes."""

    def __init__(self, num_blocks: int, width: int) -> None:
        """Hold the blocks, input first, as checkpoints have them."""
        super().__init__()
        size = width // num_blocks
        self.weight = nn.Parameter(torch.empty(num_blocks, size, size), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(num_blocks, size), requires_grad=False)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Return each channel's gate."""
        blocks = x.unflatten(-1, self.bias.shape)
        return (torch.einsum("btni,nio->btno", blocks, self.weight) + self.bias).sigmoid().flatten(-2)


@final
class RealGatedMixer(MixerBlock):
    """Two branches: one convolved and taken through the state, one that gates what comes out of it."""

    def __init__(self, spec: RealGatedSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections, both gates, and how fast each channel forgets."""
        super().__init__()
        self.spec = spec
        self.layer = layer
        self.act = ACTIVATIONS[spec.activation]
        self.project = nn.Linear(hidden_size, spec.width)
        self.gate = nn.Linear(hidden_size, spec.width)
        self.conv = ShortConvolution(spec.width, spec.conv_width, has_bias=True)
        self.input_gate = BlockGate(spec.num_blocks, spec.width)
        self.decay_gate = BlockGate(spec.num_blocks, spec.width)
        self.decay = nn.Parameter(torch.empty(spec.width), requires_grad=False)
        self.out = nn.Linear(spec.width, hidden_size)

    @property
    def cache_shape(self) -> LayerShape:
        """Nothing of any token."""
        return NO_KEYS

    @property
    def state_shape(self) -> StateShape:
        """The convolution's last inputs, and a number a channel."""
        return state_shape_of(self.spec.mixer, self.spec.conv_width - 1, self.spec.width)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what the tokens read of the state."""
        inputs = self.project(x)
        read = forward_pass.through_states(self.layer, self.state_shape, inputs, self._advance)
        return self.out(read * self.act(self.gate(x)))

    def _advance(
        self, inputs: Float[Tensor, "batch tokens width"], state: LayerState, is_start: bool
    ) -> tuple[Float[Tensor, "batch tokens width"], LayerState]:
        """Go on from a state."""
        mixer = self.spec.mixer
        mixed, tail = self.conv(inputs, state.tail)
        rate = nn.functional.softplus(self.decay.float())
        found = MixerInputs(
            mixed.unsqueeze(-1),
            log_decay=-FASTEST * self.decay_gate(mixed).float() * rate,
            write=self.input_gate(mixed),
        )
        read, after = mix(mixer, found, mixer_state(mixer, state, is_start=is_start))
        return read.squeeze(-1), LayerState(tail, after.matrix)
