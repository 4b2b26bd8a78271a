"""Train a planted model on the terminal. Knows nothing of how."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.train.planted_documents_model import PlantedRecipe, train_planted_documents

DEFAULT = PlantedRecipe()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run takes."""
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a folder to be made")
    parser.add_argument(
        "--steps", type=int, default=DEFAULT.num_steps, metavar="N", help=f"how long ({DEFAULT.num_steps})"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT.seed, metavar="N", help="of weights and rows (0)")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say how many answers are right."""
    recipe = replace(DEFAULT, num_steps=arguments.steps, seed=arguments.seed)
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        trained = train_planted_documents(recipe, arguments.out, bar.show)
    print(f"{trained.folder}: {trained.fitted.num_steps} steps in {trained.fitted.seconds:.0f} s")
    for name, one in trained.exact.items():
        print(f"  {name}: {one.exact:.1%} of {one.num_prompts} answers are exact")
    return 0
