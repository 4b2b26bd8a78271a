"""Values of two heads are read as one, and nothing is stored twice."""

from __future__ import annotations

import pytest
import torch

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, Heads, attend
from cynosure.attention.paired import PairedValues
from cynosure.core.errors import AttentionError


@pytest.mark.parametrize("length", [1, 31, 32, 33])
def test_equals_two_calls(length: int) -> None:
    """Once with the first half's values, once with the second's, as the paper's authors compute it."""
    dice = torch.Generator().manual_seed(3)
    q = torch.randn(length, 8, 6, generator=dice)
    k, v = torch.randn(length, 4, 6, generator=dice), torch.randn(length, 4, 6, generator=dice)
    plan = AttentionPlan.of_lengths([length])
    paired = attend(AttentionSpec(Heads(8, 4, 6, 12)), q, [PairedValues(DenseSource(k, v))], plan)
    halves = [
        attend(AttentionSpec(Heads.of(8, 6, 4)), q, [DenseSource(k, half.repeat(1, 2, 1))], plan)
        for half in v.chunk(2, dim=1)
    ]
    torch.testing.assert_close(paired.out, torch.cat([half.out for half in halves], -1))
    torch.testing.assert_close(paired.lse, halves[0].lse)


def test_heads_come_in_pairs() -> None:
    rows = torch.zeros(2, 3, 4)
    with pytest.raises(AttentionError, match="even"):
        PairedValues(DenseSource(rows, rows))
