"""Keys that are counted again weigh as much as keys that stand there again."""

from __future__ import annotations

import pytest
import torch

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, Heads, KeyPlan, QueryPlan, attend
from cynosure.attention.masks import Full
from cynosure.attention.plan import cumulative
from cynosure.attention.positions import RepeatedStart
from cynosure.core.errors import AttentionError

HEADS = Heads.of(2, 8)


def tokens(num_keys: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(2)
    return tuple(torch.randn(num_keys, 2, 8, generator=dice, dtype=torch.float64) for _ in "qkv")


@pytest.mark.parametrize("num_keys", [1, 7, 8, 9, 12, 31])
@pytest.mark.parametrize("backend", ["reference", "tiled", "sdpa"])
def test_the_middle_sees_the_first_block_again(num_keys: int, backend: str) -> None:
    q, k, v = tokens(num_keys)
    position = RepeatedStart(size=3, count=4, length=8)
    spec = AttentionSpec(HEADS, Full(), position)
    got = attend(spec, q, [DenseSource(k, v)], AttentionPlan.of_lengths([num_keys]), backend=backend)
    last = (num_keys - 1) // 3 * 3
    for row in range(num_keys):
        times = 4 if num_keys > 8 and 3 <= row < last else 1
        again = [*range(num_keys), *list(range(min(3, num_keys))) * (times - 1)]
        queries = QueryPlan(cumulative([1]), torch.tensor([row]))
        plan = AttentionPlan(queries, (KeyPlan(cumulative([len(again)]), torch.tensor(again)),))
        plain = AttentionSpec(HEADS, Full())
        wanted = attend(plain, q[row : row + 1], [DenseSource(k[again], v[again])], plan, backend="reference")
        torch.testing.assert_close(got.out[row : row + 1], wanted.out, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(got.lse[row : row + 1], wanted.lse, atol=1e-10, rtol=1e-10)


def test_counts_of_nothing_are_refused() -> None:
    with pytest.raises(AttentionError, match="at least 1"):
        RepeatedStart(4, 0, 8)
