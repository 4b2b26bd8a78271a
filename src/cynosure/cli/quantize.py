"""Quantise a checkpoint on the terminal. Knows nothing of codes."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.core.errors import InputError
from cynosure.models.quantize import QuantScheme, scheme_of
from cynosure.models.quantized_folder import Written, quantise_folder

GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what becomes what, and where it goes."""
    parser.add_argument("source", metavar="FOLDER", help="a checkpoint's folder, a GGUF file, or a hub id")
    parser.add_argument("--to", required=True, choices=("int8", "int4"), help="bits of a weight's code")
    parser.add_argument(
        "--group", type=int, choices=(32, 128), help="weights that share a scale in int4 (32)"
    )
    parser.add_argument("--pure", action="store_true", help="4 bits for the head too, which else keeps 8")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER2", help="a folder to be made")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what it weighs."""
    scheme = chosen_scheme(arguments.to, arguments.group, arguments.pure)
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        written = quantise_folder(arguments.source, scheme, arguments.out, bar.show)
    print(told(written))
    return 0


def chosen_scheme(to: str, group: int | None, is_pure: bool) -> QuantScheme:
    """Return the scheme that the options name.

    Raises:
        InputError: an option of int4 with int8.
    """
    if to == "int8" and (group is not None or is_pure):
        raise InputError(
            "int8 has one scale a row, the head's too; --group and --pure are for int4. Leave them out."
        )
    suffix = ("-g128" if group == 128 else "") + ("-pure" if is_pure else "")
    return scheme_of(to + suffix)


def told(written: Written) -> str:
    """Return the result as a line."""
    before, after = written.bytes_before / GIB, written.bytes_after / GIB
    return (
        f"{written.folder}: {written.scheme.name}, {written.bits_per_weight:.2f} bits a weight, "
        f"{after:.3f} GiB (from {before:.3f} GiB)"
    )
