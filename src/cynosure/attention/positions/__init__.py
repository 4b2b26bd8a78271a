"""Hand on the kinds of position. Knows nothing of their arithmetic."""

from cynosure.attention.positions.alibi import Alibi
from cynosure.attention.positions.axial import AxialRope
from cynosure.attention.positions.disentangled import Disentangled, DistanceVectors
from cynosure.attention.positions.position import NoPosition, Position, score_bias
from cynosure.attention.positions.repeated import RepeatedStart
from cynosure.attention.positions.rope import MRope, Rope
from cynosure.attention.positions.rotary import Rotary, RotaryTable, apply
from cynosure.attention.positions.scaling import (
    DynamicNtk,
    Linear,
    Llama3,
    LongRope,
    NoScaling,
    Proportional,
    RopeScaling,
)
from cynosure.attention.positions.t5_bias import T5Bias
from cynosure.attention.positions.yarn import Yarn

__all__ = [
    "Alibi",
    "AxialRope",
    "Disentangled",
    "DistanceVectors",
    "DynamicNtk",
    "Linear",
    "Llama3",
    "LongRope",
    "MRope",
    "NoPosition",
    "NoScaling",
    "Position",
    "Proportional",
    "RepeatedStart",
    "Rope",
    "RopeScaling",
    "Rotary",
    "RotaryTable",
    "T5Bias",
    "Yarn",
    "apply",
    "score_bias",
]
