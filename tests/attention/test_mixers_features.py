"""Random features estimate the softmax kernel without bias; orthogonal ones vary less."""

from __future__ import annotations

import torch

from cynosure.attention.mixers import draw_projection, positive_features

SCALE, DIM = 0.5, 8


def estimates(q: torch.Tensor, k: torch.Tensor, num_features: int, *, is_orthogonal: bool) -> torch.Tensor:
    """Estimates of exp(scale q.k) by a few hundred independent draws."""
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(600):
        projection = draw_projection(num_features, DIM, generator, is_orthogonal=is_orthogonal)
        log_products = positive_features(q, projection, SCALE) + positive_features(k, projection, SCALE)
        draws.append(log_products.exp().mean())
    return torch.stack(draws)


def test_the_estimate_has_no_bias_and_orthogonal_features_vary_less() -> None:
    q, k = (0.7 * torch.randn(DIM, dtype=torch.float64) for _ in range(2))
    exact = (SCALE * q @ k).exp()
    spread = {}
    for is_orthogonal in (False, True):
        found = estimates(q, k, DIM, is_orthogonal=is_orthogonal)
        assert abs(found.mean() - exact) < 4 * found.std() / len(found) ** 0.5
        # The control: without the halved squared length, the mean would be far away.
        assert abs(found.mean() * (SCALE * (q @ q + k @ k) / 2).exp() - exact) > 20 * found.std() / 600**0.5
        spread[is_orthogonal] = float(found.std())
    assert spread[True] < 0.9 * spread[False]


def test_directions_are_orthogonal_in_blocks_and_independent_ones_are_not() -> None:
    for is_orthogonal in (True, False):
        rows = draw_projection(DIM + 3, DIM, torch.Generator().manual_seed(1), is_orthogonal=is_orthogonal)
        assert rows.shape == (DIM + 3, DIM)
        block = torch.nn.functional.normalize(rows[:DIM], dim=-1)
        is_unit = torch.allclose(block @ block.T, torch.eye(DIM, dtype=torch.float64), atol=1e-10)
        assert is_unit is is_orthogonal


def test_a_draw_is_the_seed_s() -> None:
    first, again, other = (draw_projection(5, DIM, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
