"""Make a table of embeddings to be filled. Knows nothing of what its rows mean."""

from __future__ import annotations

import torch
from torch import nn


def embedding(num_rows: int, width: int) -> nn.Embedding:
    """Return a table without drawing random numbers for it: on the meta device that alone takes a second."""
    return nn.Embedding(num_rows, width, _weight=torch.empty(num_rows, width))
