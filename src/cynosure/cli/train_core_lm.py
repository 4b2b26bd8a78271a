"""Train the pack's code model on the terminal. Knows nothing of how."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.core.errors import InputError
from cynosure.train.code_corpus import read_code
from cynosure.train.core_lm import SIZES, CoreRecipe, train_core_lm
from cynosure.train.core_lm_card import write_recipe
from cynosure.train.corpus import library_folder
from cynosure.train.licences import permissive_packages

DEFAULT = CoreRecipe()
#: Where minutes end a run, more steps than any machine takes in them.
MANY_STEPS = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run may be told."""
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a folder to be made")
    parser.add_argument("--size", choices=sorted(SIZES), default="6m", help="parameters (6m)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=int, default=DEFAULT.num_steps, metavar="N", help=f"how long ({DEFAULT.num_steps})"
    )
    length.add_argument("--minutes", type=float, metavar="N", help="how long by the clock instead")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT.seed, metavar="N", help="of weights and samples (0)"
    )
    parser.add_argument(
        "--package-bytes",
        type=int,
        default=DEFAULT.max_package_bytes,
        metavar="N",
        help=f"of each package, at most ({DEFAULT.max_package_bytes})",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that the folder holds")
    parser.add_argument("--batch", type=int, default=DEFAULT.num_seqs, metavar="N", help="rows a step")
    parser.add_argument("--rate", type=float, default=DEFAULT.peak_rate, metavar="R", help="the highest rate")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (torch's choice)")
    parser.add_argument("--compile", action="store_true", help="have torch compile the step first")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="a GPU if there is one"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say how well it learned.

    Raises:
        InputError: a GPU was asked for and there is none.
    """
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda was asked for, and torch finds no GPU. Leave it out.")
    is_gpu = arguments.device != "cpu" and torch.cuda.is_available()
    recipe = replace(
        DEFAULT,
        shape=SIZES[arguments.size],
        num_steps=arguments.steps if arguments.minutes is None else MANY_STEPS,
        max_minutes=arguments.minutes,
        max_package_bytes=arguments.package_bytes,
        num_seqs=arguments.batch,
        peak_rate=arguments.rate,
        is_compiled=arguments.compile,
        seed=arguments.seed,
    )
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        bar.show("Reading the corpus", 0, 0)
        packages = permissive_packages(left_out=("cynosure",))
        corpus = read_code(library_folder(), packages, max_package_bytes=recipe.max_package_bytes)
        trained = train_core_lm(
            corpus,
            recipe,
            arguments.out,
            resume=arguments.resume,
            device="cuda" if is_gpu else "cpu",
            report=bar.show,
        )
        write_recipe(corpus, recipe, trained)
    print(
        f"{trained.folder}: {trained.num_parameters} parameters, {trained.fitted.last_loss:.3f} nats a token "
        f"in training, {trained.held_out_loss:.3f} on held-out modules ({trained.held_out_bits:.3f} bits a "
        "byte)"
    )
    return 0
