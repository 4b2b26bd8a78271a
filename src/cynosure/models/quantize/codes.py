"""Turn weights into codes and back. Knows nothing of layers, files or schemes.

Both codes are symmetric: there is no zero point, so that a kernel multiplies codes and scales once a group.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import CheckpointCorrupt
from cynosure.models.quantize.code_format import Coded, CodeFormat

LARGEST_INT8 = 127
LOWEST_INT4, LARGEST_INT4 = -8, 7

#: Where the largest weight of a group may land among the codes; each is tried and the best is kept. Beyond
#: -8 it is clipped, which pays in long groups. Twenty tries instead of these six gain one part in a hundred.
LANDINGS = (-7.2, -7.7, -8.2, -8.8, -9.8, -11.0)

#: Weights looked at together: their float32 copies stay in a core's cache.
TILE = 1 << 18


def quantise(weight: Float[Tensor, "out in"], form: CodeFormat) -> Coded:
    """Return the codes of a weight; depends on each row alone, and not on the dtype around it.

    Raises:
        CheckpointCorrupt: a weight is NaN or infinite, or so large that its square is.
    """
    num_rows, width = weight.shape
    codes = torch.empty(form.codes_shape(num_rows, width), dtype=form.codes_dtype)
    scale = torch.empty(form.scale_shape(num_rows, width), dtype=form.scale_dtype)
    step = max(1, TILE // max(1, width))
    for first in range(0, num_rows, step):
        rows = slice(first, first + step)
        wide = weight[rows].float()
        if form.group_size is None:
            codes[rows], scale[rows] = _to_int8(wide)
        else:
            codes[rows], scale[rows] = _to_int4(wide, form.group_size)
    # A row with NaN or infinity has no finite scale.
    if not bool(torch.isfinite(scale).all()):
        raise CheckpointCorrupt(
            "a weight has no finite scale. Fetch the checkpoint again, or ask who trained it."
        )
    return Coded(codes, scale)


def dequantise(coded: Coded, form: CodeFormat, dtype: torch.dtype) -> Float[Tensor, "*lead out in"]:
    """Return the weights that codes stand for, rounded once, to `dtype`."""
    codes, scale = coded
    if form.group_size is None:
        return (codes.float() * scale[..., None]).to(dtype)
    halves = torch.stack([codes & 15, codes >> 4], -1).flatten(-2)
    groups = halves.unflatten(-1, (-1, form.group_size)).float().add_(LOWEST_INT4)
    return (groups * scale.float()[..., None]).flatten(-2).to(dtype)


def _to_int8(weight: Float[Tensor, "rows width"]) -> Coded:
    """Divide each row by its largest magnitude."""
    scale = weight.abs().amax(-1) / LARGEST_INT8
    codes = _rounded(weight, scale[:, None], -LARGEST_INT8, LARGEST_INT8)
    return Coded(codes.to(torch.int8), scale)


def _to_int4(weight: Float[Tensor, "rows width"], group_size: int) -> Coded:
    """Choose each group's scale among a few by squared error; each is fitted to its codes first.

    For given codes the least error has `scale = <weight, code> / <code, code>`.
    """
    groups = weight.unflatten(-1, (-1, group_size))
    extreme = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    # Not finite at first where a weight is not: no error is smaller then, and the caller sees it.
    best = extreme * float("inf")
    best = torch.where(extreme == 0, extreme, best)
    least = torch.full_like(extreme, float("inf"))
    for landing in LANDINGS:
        codes = _rounded(groups, extreme / landing, LOWEST_INT4, LARGEST_INT4)
        power = codes.square().sum(-1, keepdim=True)
        fitted = (groups * codes).sum(-1, keepdim=True) / power.clamp(min=1)
        # As it will be stored.
        fitted = fitted.bfloat16().float()
        error = (codes * fitted).sub_(groups).square_().sum(-1, keepdim=True)
        is_better = error < least
        least = torch.where(is_better, error, least)
        best = torch.where(is_better, fitted, best)
    codes = _rounded(groups, best, LOWEST_INT4, LARGEST_INT4).flatten(-2).sub_(LOWEST_INT4).to(torch.uint8)
    packed = codes[..., 0::2] | codes[..., 1::2] << 4
    return Coded(packed, best.squeeze(-1).bfloat16())


def _rounded(
    weight: Float[Tensor, "*lead width"], scale: Float[Tensor, "*lead 1"], low: int, high: int
) -> Float[Tensor, "*lead width"]:
    """Return the nearest codes; 0 where the scale is 0, or so small that its inverse is none."""
    inverse = scale.reciprocal()
    inverse = inverse.where(inverse.isfinite(), torch.zeros_like(inverse))
    return (weight * inverse).round_().clamp_(low, high)
