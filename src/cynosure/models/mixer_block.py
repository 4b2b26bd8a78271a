"""Stand for a recurrence with a state where other layers attend. Knows nothing of any one recurrence."""

from __future__ import annotations

from abc import abstractmethod

from cynosure.attention.mixers import MixerSpec, MixerState
from cynosure.cache import LayerShape, LayerState, StateShape
from cynosure.models.forward_pass import AttentionBlock

#: What a cache keeps of each token: nothing, and of the whole sequence a state.
NO_KEYS = LayerShape(0, 0, 0)


class MixerBlock(AttentionBlock):
    """A mixer in the place of attention; its `cache_shape` is `NO_KEYS`."""

    @property
    @abstractmethod
    def state_shape(self) -> StateShape:
        """What the layer remembers of a whole sequence."""


def state_shape_of(mixer: MixerSpec, tail: int, channels: int) -> StateShape:
    """Return the shape of a mixer's state behind a convolution that remembers `tail` tokens."""
    return StateShape(tail, channels, *mixer.state_shape)


def mixer_state(mixer: MixerSpec, state: LayerState, *, is_start: bool) -> MixerState:
    """Return what the mixer goes on from."""
    # Of FAVOR+ alone, which no family here has.
    log_scale = state.matrix.new_zeros(state.matrix.shape[0], mixer.num_heads)
    return MixerState(state.matrix, log_scale, num_tokens=0 if is_start else 1)
