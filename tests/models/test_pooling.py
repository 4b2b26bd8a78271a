"""Each pooling equals its formula, packed or padded on either side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.encoder_spec import Pooling
from cynosure.models.pooling import pool

LENGTHS = (4, 1, 7)
FORMULAS: dict[Pooling, Callable[[Tensor], Tensor]] = {
    Pooling.CLS: lambda x: x[0],
    Pooling.MEAN: lambda x: x.sum(0) / len(x),
    Pooling.MAX: lambda x: x.amax(0),
    Pooling.MEAN_SQRT_LEN: lambda x: x.sum(0) / len(x) ** 0.5,
    Pooling.WEIGHTED_MEAN: lambda x: (
        sum((i * row for i, row in enumerate(x, 1)), start=torch.zeros(())) / sum(range(len(x) + 1))
    ),
    Pooling.LAST_TOKEN: lambda x: x[-1],
}
TEXTS = [[1] * length for length in LENGTHS]


@pytest.mark.parametrize("kind", Pooling)
@pytest.mark.parametrize("layout", ["packed", "right", "left"])
def test_equals_its_formula(kind: Pooling, layout: str) -> None:
    batch = Batch.pack(TEXTS) if layout == "packed" else Batch.pad(TEXTS, 0, on_left=layout == "left")
    # Negative values show where padding counts as zeros.
    hidden = torch.randn(batch.token_ids.numel(), 6) - 3.0
    counts = batch.plan.keys[0].is_pad
    real = hidden if counts is None else hidden[~counts]
    expected = torch.stack([FORMULAS[kind](part) for part in real.split(LENGTHS)])
    torch.testing.assert_close(pool(kind, hidden, batch), expected)


def test_kinds_differ() -> None:
    """Otherwise the formulas above could all be one."""
    hidden = torch.randn(sum(LENGTHS), 6)
    pooled = torch.stack([pool(kind, hidden, Batch.pack(TEXTS))[2] for kind in Pooling])
    assert torch.cdist(pooled, pooled).fill_diagonal_(1.0).min() > 1e-2


def test_bfloat16_sums_are_wide() -> None:
    hidden = torch.full((4096, 2), 1.0, dtype=torch.bfloat16)
    pooled = pool(Pooling.MEAN, hidden, Batch.pack([[1] * 4096]))
    assert pooled.dtype == torch.bfloat16
    assert pooled.tolist() == [[1.0, 1.0]]
