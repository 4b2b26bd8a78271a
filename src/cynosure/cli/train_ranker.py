"""Train a ranker on the terminal. Knows nothing of how."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.train.ranker import RankerRecipe

DEFAULT = RankerRecipe()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a run takes."""
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a folder to be made")
    parser.add_argument(
        "--steps", type=int, default=DEFAULT.num_steps, metavar="N", help=f"how long ({DEFAULT.num_steps})"
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="stop the training after N minutes")
    parser.add_argument("--seed", type=int, default=DEFAULT.seed, metavar="N", help="of data and batches (0)")
    parser.add_argument(
        "--reference", type=Path, metavar="FOLDER", help="Python's reference documentation: its folder `html`"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run that FOLDER holds")
    parser.add_argument("--float32", action="store_true", help="multiply in float32, not in bfloat16")


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say how well it ranks what is held out."""
    recipe = RankerRecipe(
        num_steps=arguments.steps,
        max_minutes=arguments.minutes,
        seed=arguments.seed,
        is_mixed=not arguments.float32,
    )
    # Late: other recipes need no search, whose packages are an extra.
    maker = importlib.import_module("cynosure.train.ranker_run")
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        made = maker.make_ranker(arguments.out, recipe, arguments.reference, arguments.resume, bar.show)
    figures = made.figures
    print(
        f"{arguments.out}: {made.standing} after {made.fitted.num_steps} steps; MRR {figures.mrr:.3f} on "
        f"{figures.num_questions} held-out questions (embedder {figures.embedder_mrr:.3f}, "
        f"BM25 {figures.bm25_mrr:.3f})"
    )
    return 0
