"""Compute with weights that are kept in codes. Knows nothing of how the codes were found.

Plain and slow: a block of weights is dequantised, used and thrown away. Kernels that read codes directly
must give the same within rounding.
"""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.models.quantize.code_format import Coded, CodeFormat
from cynosure.models.quantize.codes import dequantise

#: Weights that are dequantised at once: a vocabulary's worth would take more than the model.
BLOCK = 1 << 22


class _CodedTable(nn.Module):
    """Rows of codes."""

    codes: Tensor
    scale: Tensor

    def __init__(self, form: CodeFormat, num_rows: int, width: int) -> None:
        super().__init__()
        self.form = form
        self.num_rows = num_rows
        self.width = width
        self.register_buffer("codes", torch.empty(form.codes_shape(num_rows, width), dtype=form.codes_dtype))
        self.register_buffer("scale", torch.empty(form.scale_shape(num_rows, width), dtype=form.scale_dtype))

    def rows(self, wanted: slice | Tensor, dtype: torch.dtype) -> Float[Tensor, "*rows width"]:
        """Return some rows of the weight."""
        return dequantise(Coded(self.codes[wanted], self.scale[wanted]), self.form, dtype)

    def share(self, other: _CodedTable) -> None:
        """Hold the codes of `other`, as tied weights do."""
        assert (self.form, self.num_rows, self.width) == (other.form, other.num_rows, other.width)
        self.codes, self.scale = other.codes, other.scale


@final
class QuantLinear(_CodedTable):
    """`nn.Linear` over codes: the weight is `[out_features, in_features]` in `form`."""

    def __init__(
        self, form: CodeFormat, in_features: int, out_features: int, bias: nn.Parameter | None
    ) -> None:
        """Hold codes and scales to be filled, and the bias as it is."""
        super().__init__(form, out_features, in_features)
        self.bias = bias

    @property
    def in_features(self) -> int:
        """Width of what comes in."""
        return self.width

    @property
    def out_features(self) -> int:
        """Width of what goes out."""
        return self.num_rows

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        """Return `x @ weight.T + bias` in the dtype of `x`."""
        step = max(1, BLOCK // self.width)
        if self.num_rows <= step:
            return functional.linear(x, self.rows(slice(None), x.dtype), self.bias)
        out = x.new_empty(*x.shape[:-1], self.num_rows)
        for first in range(0, self.num_rows, step):
            rows = slice(first, first + step)
            bias = None if self.bias is None else self.bias[rows]
            out[..., rows] = functional.linear(x, self.rows(rows, x.dtype), bias)
        return out

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"{self.in_features}, {self.out_features}, {self.form}"


@final
class QuantEmbedding(_CodedTable):
    """`nn.Embedding` over codes, for a table that the head shares; gives vectors of `dtype`."""

    def __init__(self, form: CodeFormat, num_embeddings: int, width: int, dtype: torch.dtype) -> None:
        """Hold codes and scales to be filled."""
        super().__init__(form, num_embeddings, width)
        self.dtype = dtype

    def forward(self, token_ids: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """Return each token's vector."""
        return self.rows(token_ids, self.dtype)
