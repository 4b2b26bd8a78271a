"""Train a model on the terminal. Knows nothing of how."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cynosure.cli import train_core_lm, train_planted, train_ranker
from cynosure.cli.loading_bar import LoadingBar
from cynosure.train import Recipe, read_corpus, train
from cynosure.train.corpus import library_folder

DEFAULT = Recipe()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the recipes."""
    recipes = parser.add_subparsers(dest="recipe", metavar="RECIPE", required=True)
    tiny = recipes.add_parser(
        "tiny", help="a small decoder on the source and documentation of this Python, in minutes"
    )
    tiny.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a folder to be made")
    tiny.add_argument(
        "--steps", type=int, default=DEFAULT.num_steps, metavar="N", help=f"how long ({DEFAULT.num_steps})"
    )
    tiny.add_argument(
        "--seed", type=int, default=DEFAULT.seed, metavar="N", help="of weights and batches (0)"
    )
    tiny.add_argument(
        "--corpus", type=Path, metavar="FOLDER", help="Python files to learn from (the library's)"
    )
    tiny.add_argument(
        "--float32",
        action="store_true",
        help="multiply in float32; by default in bfloat16, which may be faster",
    )
    core_lm = recipes.add_parser("core-lm", help="the pack's code model, on permissively licensed Python")
    train_core_lm.add_arguments(core_lm)
    ranker = recipes.add_parser("ranker", help="the pack's ranker, on the documentation of this Python")
    train_ranker.add_arguments(ranker)
    planted = recipes.add_parser(
        "planted-documents", help="a tiny model that answers from documents, whose right citations are known"
    )
    train_planted.add_arguments(planted)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say how well it learned."""
    if arguments.recipe == "core-lm":
        return train_core_lm.run(arguments)
    if arguments.recipe == "ranker":
        return train_ranker.run(arguments)
    if arguments.recipe == "planted-documents":
        return train_planted.run(arguments)
    recipe = replace(DEFAULT, num_steps=arguments.steps, seed=arguments.seed, is_mixed=not arguments.float32)
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        bar.show("Reading the corpus", 0, 0)
        corpus = read_corpus(arguments.corpus or library_folder())
        trained = train(corpus, recipe, arguments.out, bar.show)
    print(
        f"{trained.folder}: {trained.num_parameters} parameters, {trained.train_loss:.3f} nats a token in "
        f"training, {trained.held_out_loss:.3f} on held-out files"
    )
    return 0
