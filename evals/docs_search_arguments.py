"""Declare which index and which ranker an evaluation of the search takes, and find them. Ranks nothing."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from cynosure.cli.local_ranker import LocalRanker, load_local_ranker
from cynosure.retrieval.reference import checked_reference, find_reference


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where indexes are kept, and the reference documentation that one is made of."""
    parser.add_argument("--indexes", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--reference", type=Path, help="the reference documentation; else where it is usual")
    parser.add_argument("--no-reference", action="store_true")


def add_ranker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which ranker reads what was found."""
    parser.add_argument("--no-ranker", action="store_true")
    parser.add_argument("--ranker", type=Path, help="a ranker's folder; else the pack's")


def reference_of(chosen: argparse.Namespace) -> Path | None:
    """The folder of the reference documentation, where there is one and it is wanted."""
    if chosen.no_reference:
        return None
    return checked_reference(chosen.reference) if chosen.reference else find_reference(os.environ)


def ranker_of(chosen: argparse.Namespace) -> LocalRanker | None:
    """The ranker, where one is wanted."""
    return None if chosen.no_ranker else load_local_ranker(chosen.ranker)


def command_of(module: str, chosen: argparse.Namespace) -> str:
    """The command that writes the figures of a split, as results tell it."""
    named = " --reference FOLDER" if chosen.reference else ""
    return f"python -m evals.{module} --set {chosen.set}{named} --write"
