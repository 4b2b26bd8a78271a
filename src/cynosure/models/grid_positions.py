"""Number patches and tokens by time, row and column. Knows nothing of graphs or weights.

Qwen2-VL, arXiv 2409.12191, section 2.1. Positions follow from a whole sequence; a chunk takes its columns.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.models.grid_vision_spec import PatchGrid


def patch_positions(grid: PatchGrid, merge_size: int) -> Int[Tensor, "2 n"]:
    """Return row and column of each patch, in the order in which patches come: square by square.

    Raises:
        InputError: the squares that are merged do not cover the image.
    """
    check_grid(grid, merge_size)
    rows = torch.arange(grid.height)[:, None].expand(grid.height, grid.width)
    columns = torch.arange(grid.width).expand(grid.height, grid.width)
    squares = (grid.height // merge_size, merge_size, grid.width // merge_size, merge_size)
    both = torch.stack([rows, columns]).reshape(2, *squares)
    return both.transpose(2, 3).flatten(1)


def token_positions(
    token_ids: Sequence[int], grids: Sequence[PatchGrid], image_token_id: int, merge_size: int
) -> Int[Tensor, "3 n"]:
    """Return time, row and column of each token of a whole sequence; words count on all three alike.

    Args:
        token_ids: with a place for each merged patch of every image, those of an image side by side.
        grids: of the images, in order.
        image_token_id: the token of such places.
        merge_size: patches on a side of a square that becomes one vector.

    Raises:
        InputError: images and their places do not match.
    """
    parts: list[Tensor] = []
    place, position, images = 0, 0, list(grids)
    ends = [at for at, id_ in enumerate(token_ids) if id_ == image_token_id]
    while place < len(token_ids):
        if token_ids[place] != image_token_id:
            # The words up to the next image.
            after = bisect_left(ends, place)
            count = (ends[after] if after < len(ends) else len(token_ids)) - place
            parts.append(torch.arange(position, position + count).expand(3, -1))
            place, position = place + count, position + count
            continue
        if not images:
            raise InputError("the tokens have places for more images than were given. Give all of them.")
        grid = images.pop(0)
        check_grid(grid, merge_size)
        height, width = grid.height // merge_size, grid.width // merge_size
        run = token_ids[place : place + height * width]
        if len(run) < height * width or any(id_ != image_token_id for id_ in run):
            raise InputError(
                f"an image of {grid.height} x {grid.width} patches takes {height * width} places side by "
                f"side (token {image_token_id}), and the tokens have fewer there. Leave room for all."
            )
        parts.append(
            torch.stack(
                [
                    torch.full((height, width), position),
                    position + torch.arange(height)[:, None].expand(height, width),
                    position + torch.arange(width).expand(height, width),
                ]
            ).flatten(1)
        )
        place, position = place + height * width, position + max(height, width)
    if images:
        raise InputError(
            f"{len(images)} images have no place among the tokens (id {image_token_id}). Leave room for all."
        )
    return torch.cat(parts, 1) if parts else torch.zeros(3, 0, dtype=torch.int64)


def check_grid(grid: PatchGrid, merge_size: int) -> None:
    """Raise where squares of patches do not cover an image.

    Raises:
        InputError: a side is no multiple of theirs.
    """
    sides = (grid.height, grid.width)
    if min(sides) < 1 or any(side % merge_size for side in sides):
        raise InputError(
            f"an image has {grid.height} x {grid.width} patches; both must be multiples of {merge_size}, "
            "which are merged. Resize the image."
        )
