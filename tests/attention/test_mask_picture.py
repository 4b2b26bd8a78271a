"""Check pictures of masks, pixel by pixel. Knows nothing of files or commands."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from jaxtyping import UInt8

from cynosure.attention.grid import Grid
from cynosure.attention.mask_picture import example_grid, mask_png, mask_text, png
from cynosure.attention.masks import Causal, Full, Global, Mask, UpTo, Window
from cynosure.core.errors import InputError
from tests.attention.mask_cases import PRIMITIVES

ALLOWED, FORBIDDEN, PARTIAL, DARK = (31, 111, 139), (233, 235, 238), (224, 122, 31), (10, 45, 62)


def read_png(data: bytes) -> UInt8[np.ndarray, "height width 3"]:
    """Read an unfiltered true-colour PNG as its standard says, checking every checksum."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, []
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length]) == (zlib.crc32(body),)
        chunks.append((body[:4], body[4:]))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_a_png_holds_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read_png(png(image)), image)


@pytest.mark.parametrize("rows", [1, 7, 32, 200, 1024])
def test_every_cell_has_the_colour_of_its_answer(rows: int) -> None:
    mask, grid = Causal() & (Window(8) | Global(2)), example_grid(rows)
    image = read_png(mask_png(mask, grid))
    cell = image.shape[0] // rows
    assert 512 <= image.shape[0] <= 1024
    centres = image[cell // 2 :: cell, cell // 2 :: cell][:rows, :rows]
    expected = np.where(mask.allowed(grid).numpy()[..., None], ALLOWED, FORBIDDEN)
    assert np.array_equal(centres, expected)


def test_blocks_to_visit_are_framed() -> None:
    image = read_png(mask_png(Causal(), example_grid(32), block=8))
    side = 8 * 24
    corners = [[tuple(image[row * side + 1, column * side + 1]) for column in range(4)] for row in range(4)]
    for row in range(4):
        for column in range(4):
            is_framed = corners[row][column] in (PARTIAL, DARK)
            assert is_framed == (column <= row)
            assert (corners[row][column] == PARTIAL) == (column == row)
    assert not (read_png(mask_png(Causal(), example_grid(32))) == PARTIAL).all(-1).any()


def test_ragged_blocks_and_oblong_grids_are_drawn() -> None:
    grid = Grid(torch.arange(3), torch.arange(10), 10)
    assert read_png(mask_png(Full(), grid, block=4)).shape == (3 * 76 + 1, 10 * 76 + 1, 3)


def test_text_is_one_line_a_query() -> None:
    assert mask_text(Causal(), example_grid(3)) == "■ · ·\n■ ■ ·\n■ ■ ■"


# What looks at the length alone shows all or nothing.
@pytest.mark.parametrize("mask", [mask for mask in PRIMITIVES if not isinstance(mask, UpTo)], ids=repr)
def test_the_example_has_something_to_show_of_every_mask(mask: Mask) -> None:
    cells = mask.allowed(example_grid(32))
    assert bool(cells.any())
    assert bool(cells.all()) == (mask == Full())


def test_the_example_tree_has_branches() -> None:
    parents = example_grid(32).tree_parents
    assert parents is not None
    assert parents[:24].tolist() == [0, *range(23)]
    assert parents[24:].tolist() == [23, 24, 24, 25, 25, 26, 26, 27]


@pytest.mark.parametrize("rows", [0, -1, 1025])
def test_pictures_have_a_size(rows: int) -> None:
    with pytest.raises(InputError, match=f"got {rows} rows; it may have from 1 to 1024"):
        example_grid(rows)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 1025)])
def test_grids_have_a_size(shape: tuple[int, int]) -> None:
    rows, columns = shape
    with pytest.raises(InputError, match=f"got {rows} x {columns} cells"):
        mask_png(Causal(), Grid(torch.arange(rows), torch.arange(columns), columns))
