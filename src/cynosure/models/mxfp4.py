"""Turn MXFP4 codes into numbers. Knows nothing of models.

OCP Microscaling Formats, version 1.0: blocks of 32 numbers of 4 bits (E2M1: a sign, two bits of exponent,
one of mantissa), two in a byte, low half first, and a power of two for each block (E8M0).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cynosure.core.errors import CheckpointCorrupt

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
EXPONENT_BIAS = 127
NOT_A_NUMBER = 255


def dequantise(
    codes: UInt8[Tensor, "*lead blocks bytes"], scales: UInt8[Tensor, "*lead blocks"], dtype: torch.dtype
) -> Float[Tensor, "*lead width"]:
    """Return the numbers that `codes` stand for; bfloat16 and wider hold each exactly.

    Raises:
        CheckpointCorrupt: a scale is the code that means "not a number".
    """
    if bool((scales == NOT_A_NUMBER).any()):
        raise CheckpointCorrupt("an MXFP4 scale is 255, which is no number. Fetch the checkpoint again.")
    table = torch.tensor([*MAGNITUDES, *(-magnitude for magnitude in MAGNITUDES)], dtype=dtype)
    pairs = torch.stack([codes & 15, codes >> 4], -1).flatten(-2)
    exponents = scales.to(torch.int32)[..., None] - EXPONENT_BIAS
    return torch.ldexp(table[pairs.int()], exponents).to(dtype).flatten(-2)
