"""Answer a question on the terminal with quotes. Needs no running server, and opens the same index."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.text import Text

from cynosure.cli.documentation import add_store_argument, open_store
from cynosure.cli.index_argument import add_index_argument
from cynosure.server.schemas.ask import AskResponse
from cynosure.server.services import Attended, Highlight, Quote

MAX_RESULTS = 20
#: From which weight on a word is marked, and how; styles that show on light and dark terminals alike.
MARKS = ((0.6, "bold underline"), (0.3, "underline"))
#: How the sentence that answers is marked.
ANSWERS = "bold"
#: What a quote's characters are counted in.
WHOLES = {"docstring": "its docstring", "reference": "its text in the reference documentation"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the question and how to print its answer."""
    parser.add_argument("question", help="in anybody's words")
    parser.add_argument(
        "--max-results",
        type=int,
        default=3,
        choices=range(1, MAX_RESULTS + 1),
        metavar="N",
        help="1 to 20 (3)",
    )
    parser.add_argument("--json", action="store_true", help="print what /v1/ask answers")
    add_store_argument(parser)
    add_index_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print quotes with the words attended to, or that nothing fits; both are answers."""
    docs = open_store(arguments)
    answer = docs.ask(arguments.question, arguments.max_results)
    console = Console(highlight=False)
    if arguments.json:
        print(json.dumps(AskResponse.of(answer, docs.name).model_dump(), ensure_ascii=False, indent=2))
    elif not answer.answered:
        console.print("The documents do not say.", style="bold")
        console.print(answer.reason, soft_wrap=True)
    else:
        for quote in answer.quotes:
            _print(console, quote)
        if console.is_terminal:
            console.print(_legend(answer.quotes), style="dim")
    return 0


def _print(console: Console, quote: Quote) -> None:
    """Print one quote; text that is quoted is never wrapped, or read as markup."""
    head = Text.assemble(
        (quote.object, "bold"), quote.signature, f"  ({quote.kind}, score {quote.score:.2f})"
    )
    console.print(head, soft_wrap=True)
    for line in marked(quote.text, quote.attended, quote.highlight).split("\n"):
        console.print(Text("  │ ", style="dim").append_text(line), soft_wrap=True)
    whole = f"the text of {quote.file}" if quote.file else WHOLES[quote.source]
    place = f"  {quote.object}, characters {quote.start}–{quote.end} of {whole}\n"
    console.print(Text(place, style="dim"), soft_wrap=True)


def marked(text: str, attended: tuple[Attended, ...], highlight: Highlight | None = None) -> Text:
    """The text with what answers, and the words that got much attention, styled."""
    shown = Text(text)
    if highlight is not None:
        shown.stylize(ANSWERS, highlight.start, highlight.end)
    for span in attended:
        style = next((style for least, style in MARKS if span.weight >= least), None)
        if style is not None:
            shown.stylize(style, span.start, span.end)
    return shown


def _legend(quotes: tuple[Quote, ...]) -> str:
    if any(quote.highlight for quote in quotes):
        return "bold: what answers; underlined: words that the ranker attended to"
    return "underlined: words that the embedder attended to"
