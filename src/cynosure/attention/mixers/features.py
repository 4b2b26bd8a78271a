"""Draw random projections and make positive features of them. Knows nothing of states or chunks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import AttentionError


def draw_projection(
    num_features: int, head_dim: int, generator: torch.Generator, *, is_orthogonal: bool = True
) -> Float[Tensor, "features dim"]:
    """Draw Gaussian directions, in float64; orthogonal in blocks of `head_dim`, which lowers the variance.

    An orthogonal direction keeps a Gaussian's length, so that both estimates are unbiased
    (arXiv 2009.14794, section 2.4).
    """
    if num_features < 1 or head_dim < 1:
        raise AttentionError(f"num_features and head_dim must be at least 1; got {num_features}, {head_dim}")
    rows = torch.randn(num_features, head_dim, dtype=torch.float64, generator=generator)
    if not is_orthogonal:
        return rows
    num_blocks = -(-num_features // head_dim)
    squares = torch.randn(num_blocks, head_dim, head_dim, dtype=torch.float64, generator=generator)
    basis, upper = torch.linalg.qr(squares)
    # Without the signs of the diagonal, QR does not draw rotations evenly.
    basis = basis * upper.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    directions = basis.mT.reshape(-1, head_dim)[:num_features]
    return directions * rows.norm(dim=-1, keepdim=True)


def positive_features(
    x: Float[Tensor, "*lead dim"], projection: Float[Tensor, "features dim"], scale: float
) -> Float[Tensor, "*lead features"]:
    """Return the logarithms of features whose products estimate `exp(scale q.k)`, up to 1 / num_features.

    `log f_i(x) = w_i.x' - |x'|^2 / 2` with `x' = sqrt(scale) x` (arXiv 2009.14794, lemma 1).
    """
    scaled = x * scale**0.5
    return scaled @ projection.to(x.dtype).mT - scaled.square().sum(-1, keepdim=True) / 2
