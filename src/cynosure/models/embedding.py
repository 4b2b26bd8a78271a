"""Make a table of embeddings to be filled. Knows nothing of what its rows mean."""

from __future__ import annotations

import torch
from torch import nn

from cynosure.models.native_linear import NativeEmbedding
from cynosure.models.quantize import QuantEmbedding


def embedding(num_rows: int, width: int) -> nn.Embedding:
    """Return a table without drawing random numbers for it: on the meta device that alone takes a second."""
    return nn.Embedding(num_rows, width, _weight=torch.empty(num_rows, width))


def dtype_of(table: nn.Embedding | QuantEmbedding | NativeEmbedding) -> torch.dtype:
    """Return the dtype of the vectors that a table gives."""
    return table.weight.dtype if isinstance(table, nn.Embedding) else table.dtype
