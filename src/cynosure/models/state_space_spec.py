"""Describe a decoder of state-space layers as a value. Knows nothing of checkpoints or tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.attention.mixers import MixerSpec, StateSpace


@dataclass(frozen=True)
class StateSpaceSpec:
    """A Mamba-2 decoder: layers of one mixer each, without MLPs (arXiv 2405.21060, section 7).

    `num_groups` pairs of B and C are shared by neighbouring heads. `max_step` bounds the step sizes from
    above, `min_step` from below, in prompts and single tokens alike. With `is_residual_float32` layers add
    up in float32 whatever the weights' dtype.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
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
    is_residual_float32: bool = True
    is_head_tied: bool = False
    chunk_size: int = 64

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
        return MixerSpec(StateSpace(), self.num_heads, self.state_size, self.head_dim, self.chunk_size)
