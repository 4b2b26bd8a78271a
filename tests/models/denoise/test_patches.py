"""Patches lie where their rows and columns say, and go back where they came from."""

from __future__ import annotations

import math

import pytest
import torch

from cynosure.models.denoise.patches import from_patches, sine_positions
from cynosure.models.denoise.time_embedding import waves
from cynosure.models.vision import patches_of


@pytest.mark.parametrize(("num_rows", "num_columns"), [(1, 1), (2, 5), (6, 3)])
def test_positions_are_waves_of_columns_and_rows(num_rows: int, num_columns: int) -> None:
    width, base = 8, 3.0
    found = sine_positions(num_rows, num_columns, width, base=base)
    for row in range(num_rows):
        for column in range(num_columns):
            wanted = []
            for place in (column * base / num_columns, row * base / num_rows):
                angles = [place / 10_000 ** (i / 2) for i in range(2)]
                wanted += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            torch.testing.assert_close(found[row * num_columns + column], torch.tensor(wanted))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_patches_go_back_where_they_came_from(size: int) -> None:
    latents = torch.randn(2, 5, 2 * size, 4 * size)
    # Cut with channels first in each, put together with channels last.
    patches = patches_of(latents, size).unflatten(-1, (5, size, size)).permute(0, 1, 3, 4, 2).flatten(2)
    assert torch.equal(from_patches(patches, 2, size), latents)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_waves_are_cosines_then_sines(shift: float) -> None:
    found = waves(torch.tensor([0.0, 2.5]), 7, shift)
    assert found.shape == (2, 7)
    for index in range(3):
        angle = 2.5 * 10_000 ** (-index / (3 - shift))
        assert float(found[1, index]) == pytest.approx(math.cos(angle), abs=1e-5)
        assert float(found[1, 3 + index]) == pytest.approx(math.sin(angle), abs=1e-5)
    assert found[:, 6].tolist() == [0.0, 0.0]
