"""Make adapters of random pairs, without files. Knows nothing of how they are applied."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from cynosure.models.adapters.adapter import Adapter, Pair
from cynosure.models.adapters.targets import Base
from cynosure.models.load import LanguageModel


def random_adapter(
    model: LanguageModel, seed: int, strength: float = 0.2, name: str | None = None
) -> Adapter:
    """An adapter of every projection in the layers but experts, each seed with a rank of its own."""
    dice = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return strength * torch.randn(shape, generator=dice)

    pairs = {
        projection: Pair(noise(2 + seed, shape.in_features), noise(shape.out_features, 2 + seed))
        for projection, shape in Base(model.brand, model.spec).projections.items()
        if ".experts." not in projection
    }
    return Adapter(name or f"a{seed}", hashlib.sha256(bytes([seed])).hexdigest(), pairs)
