"""Show what an answer attended to, or which tokens a mask lets attend to which. Knows nothing of models."""

from __future__ import annotations

import argparse
from pathlib import Path

from cynosure.attention.mask_picture import example_grid, mask_png, mask_text
from cynosure.attention.masks import parse_mask
from cynosure.cli.explain_request import add_request_arguments, explain_request
from cynosure.core.errors import EnvironmentFault, InputError

MAX_TEXT_ROWS = 96


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a request of a running server; or a mask, and how to show it."""
    add_request_arguments(parser)
    parser.add_argument("--mask", metavar="MASK", help='such as "Causal & (Window(8) | Global(2))"')
    parser.add_argument("--size", type=int, default=32, metavar="N", help="queries and keys to show (32)")
    parser.add_argument("--block", type=int, metavar="N", help="frame the blocks that a backend must visit")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="write a picture instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print what a request attended to; or print or write a mask: queries run down, keys run right."""
    if (arguments.request is None) == (arguments.mask is None):
        raise InputError(
            "explain takes a REQUEST_ID or a --mask, and not both. Name one: the id is the X-Request-Id of "
            "an answer."
        )
    if arguments.request is not None:
        return explain_request(arguments)
    mask = parse_mask(arguments.mask)
    grid = example_grid(arguments.size)
    if arguments.block is not None and not 1 <= arguments.block <= arguments.size:
        raise InputError(
            f"--block is {arguments.block}; it may be from 1 to --size {arguments.size}. Change it."
        )
    if arguments.out is None:
        if arguments.size > MAX_TEXT_ROWS:
            raise InputError(
                f"--size is {arguments.size}; as text at most {MAX_TEXT_ROWS}. Lower it, or use --out."
            )
        print(mask_text(mask, grid))
    elif arguments.out.suffix.lower() != ".png":
        raise InputError(f"--out is {str(arguments.out)!r}; only PNG is written. End it with .png.")
    else:
        _write(arguments.out, mask_png(mask, grid, arguments.block))
    share = float(mask.allowed(grid).float().mean())
    print(f"{mask}: {share:.1%} of {arguments.size} x {arguments.size} pairs may attend")
    return 0


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as failure:
        raise EnvironmentFault(
            f"{path} can't be written ({failure.strerror}). Name another file."
        ) from failure
