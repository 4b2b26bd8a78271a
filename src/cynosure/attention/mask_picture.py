"""Draw a mask as text and as a PNG image. Knows nothing of models, backends or files.

Queries run down, keys run right, and the first of both is at the top left.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import torch
from jaxtyping import Int, UInt8

from cynosure.attention.grid import Grid
from cynosure.attention.masks import Cover, Mask
from cynosure.core.errors import InputError

MAX_ROWS = 1024
_SIDE = 768  # pixels that a picture aims at
_PAPER = (255, 255, 255)
_FORBIDDEN = (233, 235, 238)
_ALLOWED = (31, 111, 139)
# Blocks that a backend must visit are framed: with the mask applied, and without.
_FRAMES = {Cover.PARTIAL: (224, 122, 31), Cover.FULL: (10, 45, 62)}


def example_grid(rows: int) -> Grid:
    """Return a square grid in which every kind of mask has something to show.

    Three packed documents; a bidirectional span in the first and in the second half; a chain of tokens
    whose last quarter is a binary tree of drafts; the last eighth is padding.

    Raises:
        InputError: `rows` is not from 1 to 1024.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise InputError(
            f"a picture of a mask got {rows} rows; it may have from 1 to {MAX_ROWS}. Change rows."
        )
    place = torch.arange(rows)
    first_span = (place < rows // 4).long()
    second_span = 2 * ((place >= rows // 2) & (place < rows * 5 // 8)).long()
    drafts = (place - rows * 3 // 4).clamp(min=0)
    parents = torch.where(drafts > 0, rows * 3 // 4 + (drafts - 1) // 2, place - 1).clamp(min=0)
    return Grid(
        q_positions=place,
        k_positions=place,
        num_keys=rows,
        q_nodes=place,
        q_documents=place * 3 // rows,
        k_documents=place * 3 // rows,
        q_spans=first_span + second_span,
        k_spans=first_span + second_span,
        tree_parents=parents,
        k_is_pad=place >= rows - rows // 8,
    )


def mask_text(mask: Mask, grid: Grid) -> str:
    """Return one line a query: `■` for a key that it may attend to, `·` for one that it may not."""
    return "\n".join(" ".join("■" if cell else "·" for cell in row) for row in mask.allowed(grid).tolist())


def mask_png(mask: Mask, grid: Grid, block: int | None = None) -> bytes:
    """Return a PNG image of the mask; with `block`, the blocks of its map that must be visited are framed.

    A frame is orange where the block is partial and dark where it is full.

    Raises:
        InputError: the grid has no cells, or more than 1024 rows or columns.
    """
    rows, columns = grid.shape
    if not 1 <= min(rows, columns) <= max(rows, columns) <= MAX_ROWS:
        raise InputError(
            f"a picture of a mask got {rows} x {columns} cells; each side may have from 1 to {MAX_ROWS}. "
            "Draw a tile of it."
        )
    cell = max(1, _SIDE // max(rows, columns))
    gap = 1 if cell >= 4 else 0  # paper between cells
    colours = np.array([_FORBIDDEN, _ALLOWED], dtype=np.uint8)[mask.allowed(grid).cpu().numpy().astype(int)]
    inked = colours.repeat(cell, 0).repeat(cell, 1)
    image = np.full((rows * cell + gap, columns * cell + gap, 3), _PAPER, dtype=np.uint8)
    image[gap:, gap:] = inked
    if gap:
        image[::cell], image[:, ::cell] = _PAPER, _PAPER
    if block is not None:
        _frame(image, mask.block_map(grid, block, block).cpu().numpy(), block * cell)
    return png(image)


def png(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Return a red-green-blue image as PNG (W3C PNG, third edition: signature, IHDR, IDAT, IEND)."""
    height, width = image.shape[:2]
    # Every line starts with the number of its filter; 0 is none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _frame(
    image: UInt8[np.ndarray, "height width 3"], covers: Int[np.ndarray, "q_blocks kv_blocks"], side: int
) -> None:
    """Draw a line just inside the edges of every block that is not empty."""
    height, width = image.shape[0] - 1, image.shape[1] - 1
    for cover, colour in _FRAMES.items():
        for row, column in np.argwhere(covers == cover).tolist():
            top, bottom = row * side + 1, min((row + 1) * side, height) - 1
            left, right = column * side + 1, min((column + 1) * side, width) - 1
            image[[top, bottom], left : right + 1] = colour
            image[top : bottom + 1, [left, right]] = colour
