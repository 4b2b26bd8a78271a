"""Axial rotation is ordinary rotation of each axis on its own run of pairs."""

from __future__ import annotations

import pytest
import torch

from cynosure.attention.positions import AxialRope, Rope
from cynosure.core.errors import AttentionError

AXES = torch.tensor([[0, 1, 5, 2], [3, 0, 7, 2]])
X = torch.randn(4, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_each_axis_turns_its_run_of_pairs() -> None:
    got = AxialRope(16, 30.0).rotate(X, AXES)
    pairs = got.unflatten(-1, (2, 2, 4))
    for axis in range(2):
        part = X.unflatten(-1, (2, 2, 4))[..., axis, :].flatten(-2)
        wanted = Rope(8, 30.0).rotate(part, AXES[axis])
        torch.testing.assert_close(pairs[..., axis, :].flatten(-2), wanted)


def test_products_see_distances_alone() -> None:
    rope = AxialRope(16)
    q, k = rope.rotate(X[:1], AXES[:, :1]), rope.rotate(X[1:2], AXES[:, 1:2])
    moved = torch.tensor([[4], [9]])
    torch.testing.assert_close((rope.shift(q, moved) * rope.shift(k, moved)).sum(-1), (q * k).sum(-1))
    torch.testing.assert_close(rope.unrotate(rope.rotate(X, AXES), AXES), X)
    other = rope.shift(k, torch.tensor([[1], [0]]))
    assert not torch.allclose((q * other).sum(-1), (q * k).sum(-1))


@pytest.mark.parametrize("values", [(6,), (16, 1.0), (16, 30.0, 0), (12, 30.0, 4)])
def test_channels_that_cannot_be_shared_out_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(AttentionError, match="shared out"):
        AxialRope(*values)


def test_as_many_positions_as_axes() -> None:
    with pytest.raises(AttentionError, match="1 axes and the spec 2"):
        AxialRope(16).rotate(X, AXES[:1])
