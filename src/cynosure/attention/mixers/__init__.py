"""Mix tokens through a state of constant size. Knows nothing of models, caches or how states are kept."""

from cynosure.attention.mixers.features import draw_projection, positive_features
from cynosure.attention.mixers.inputs import MixerInputs
from cynosure.attention.mixers.mix import Method, MixerState, mix
from cynosure.attention.mixers.reference import reference_mix
from cynosure.attention.mixers.spec import (
    Favor,
    GatedDelta,
    KimiDelta,
    Lightning,
    MixerSpec,
    RealGated,
    StateSpace,
)

__all__ = [
    "Favor",
    "GatedDelta",
    "KimiDelta",
    "Lightning",
    "Method",
    "MixerInputs",
    "MixerSpec",
    "MixerState",
    "RealGated",
    "StateSpace",
    "draw_projection",
    "mix",
    "positive_features",
    "reference_mix",
]
