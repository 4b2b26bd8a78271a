"""Ask a server how far its answers have moved, or freeze a reference there. Compares nothing itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cynosure.cli.running_server import add_server_arguments, asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to do, and where the server is."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print the drift board")
    show.add_argument("--json", action="store_true", help="as the server tells it")
    freeze = actions.add_parser("freeze", help="take the last watched answers of a model as its reference")
    freeze.add_argument("model", help="what requests call it")
    for one in (show, freeze):
        add_server_arguments(one, "an admin's key")


def run(arguments: argparse.Namespace) -> int:
    """Print the board, or what was frozen; 1 where `show` finds an alarm."""
    console = Console(highlight=False)
    if arguments.action == "freeze":
        made = asked(arguments, "/v1/drift/reference", {"model": arguments.model})
        where = (
            "is kept" if made["is_kept"] else "lasts as long as the server runs: start it with --drift FOLDER"
        )
        console.print(
            f"{escape(arguments.model)}: reference of {made['num_answers']} answers, "
            f"{made['digest'][:12]}; it {where}",
            soft_wrap=True,
        )
        return 0
    board = asked(arguments, "/v1/drift")
    if arguments.json:
        console.print_json(json.dumps(board))
    else:
        _draw(console, board)
    return int(any(model["alarm"] is not None for model in board["models"]))


def _draw(console: Console, board: dict[str, Any]) -> None:
    if not board["models"]:
        console.print(
            "No answer was watched yet. Start the server with --drift FOLDER, or ask with attention."
        )
    for model in board["models"]:
        count = f"{model['num_answers']} answers"
        if model["reference"] is None:
            console.print(
                f"[bold]{escape(model['model'])}[/]: {count}, no reference; "
                f"one needs {board['min_reference']}"
            )
            continue
        console.print(f"[bold]{escape(model['model'])}[/]: {model['state']}, {count} since the reference")
        if model["alarm"] is not None:
            alarm = model["alarm"]
            console.print(
                f"  [red]since answer {alarm['at_answer']}: {escape(alarm['message'])}[/]", soft_wrap=True
            )
        table = Table("feature", "reference", "now", "PSI", "Wasserstein", "chart", box=None, pad_edge=False)
        for feature in model["features"]:
            chart = feature["chart"]
            table.add_row(
                feature["title"],
                _shown(feature["reference"]["p50"]),
                _shown(feature["window"]["p50"]),
                _shown(feature["psi"]),
                _shown(feature["wasserstein"]),
                f"{max(chart['up'], chart['down']) / chart['limit']:.0%}",
                style="red" if feature["is_alarm"] else None,
            )
        console.print(table)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
