"""List passages for a query on the terminal. Judges nothing: every score is shown."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from cynosure.cli.documentation import add_store_argument, open_store
from cynosure.cli.index_argument import add_index_argument

MAX_RESULTS = 50
MAX_SHOWN = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the query and how to print what is found."""
    parser.add_argument("query", help="a question, words or a name")
    parser.add_argument(
        "--max-results",
        type=int,
        default=10,
        choices=range(1, MAX_RESULTS + 1),
        metavar="N",
        help="1 to 50 (10)",
    )
    parser.add_argument("--json", action="store_true", help="print all fields")
    add_store_argument(parser)
    add_index_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print one line a passage, best first."""
    quotes = open_store(arguments).search(arguments.query, arguments.max_results)
    if arguments.json:
        fields = [
            {name: value for name, value in asdict(quote).items() if name != "attended"} for quote in quotes
        ]
        print(json.dumps(fields, ensure_ascii=False, indent=2))
        return 0
    console = Console(highlight=False)
    for quote in quotes:
        first = " ".join(quote.text.split())
        shown = first if len(first) <= MAX_SHOWN else f"{first[: MAX_SHOWN - 1]}…"
        scores = f"{quote.score:5.2f} {quote.similarity:5.2f}  "
        console.print(Text.assemble((scores, "dim"), (quote.object, "bold"), f"  {shown}"), soft_wrap=True)
    return 0
