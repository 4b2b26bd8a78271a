"""Patches and tokens sit where Qwen2-VL's published code puts them."""

from __future__ import annotations

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.grid_positions import patch_positions, token_positions
from cynosure.models.grid_vision_spec import PatchGrid


def test_patches_come_square_by_square() -> None:
    rows, columns = patch_positions(PatchGrid(2, 4), 2).tolist()
    assert rows == [0, 0, 1, 1, 0, 0, 1, 1]
    assert columns == [0, 1, 0, 1, 2, 3, 2, 3]


def test_words_count_alike_and_go_on_behind_the_longer_side() -> None:
    """Two words, an image of 2 x 3 places, one word."""
    ids = [5, 6, *[9] * 6, 7]
    assert token_positions(ids, [PatchGrid(4, 6)], 9, 2).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]


def test_words_alone_are_where_they_are_without_images() -> None:
    assert torch.equal(token_positions([4, 5, 6], [], 9, 2), torch.arange(3).expand(3, 3))


def test_images_side_by_side_are_two() -> None:
    found = token_positions([9, 9, 3], [PatchGrid(2, 2), PatchGrid(2, 2)], 9, 2)
    assert found.tolist() == [[0, 1, 2]] * 3


@pytest.mark.parametrize(
    ("ids", "grids", "named"),
    [
        ([9], [], "more images"),
        ([9, 9], [PatchGrid(2, 2)], "more images"),
        ([9, 3], [PatchGrid(4, 2)], "side by side"),
        ([3], [PatchGrid(2, 2)], "no place"),
        ([9], [PatchGrid(3, 2)], "multiples of 2"),
        ([9], [PatchGrid(0, 2)], "multiples of 2"),
    ],
)
def test_what_does_not_match_is_refused(ids: list[int], grids: list[PatchGrid], named: str) -> None:
    with pytest.raises(InputError, match=named):
        token_positions(ids, grids, 9, 2)
