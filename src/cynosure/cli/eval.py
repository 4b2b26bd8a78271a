"""Evaluate a checkpoint on the terminal. Knows nothing of how a number is measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.core.errors import InputError, NotFound
from cynosure.evaluate.variants import Measured, Question, compare, variant_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is evaluated."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    perplexity = actions.add_parser(
        "perplexity", help="how well a decoder predicts a text, and what quantising costs it"
    )
    perplexity.add_argument("source", metavar="FOLDER", help="a checkpoint's folder, or a hub id")
    perplexity.add_argument("--text", required=True, type=Path, metavar="FILE", help="the text, in UTF-8")
    perplexity.add_argument(
        "--against",
        default="",
        metavar="LIST",
        help="what to compare with: int8,int4,kv-int8,int4+kv-int8, ...",
    )
    perplexity.add_argument(
        "--dtype", default="auto", help="what to compute in: float32, bfloat16, ... (auto)"
    )
    perplexity.add_argument("--window", type=int, metavar="N", help="tokens looked at together (512)")
    perplexity.add_argument("--stride", type=int, metavar="N", help="how far windows are apart (window - 1)")
    perplexity.add_argument("--max-tokens", type=int, metavar="N", help="the first N tokens only (all)")
    perplexity.add_argument("--json", action="store_true", help="print all fields")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a variant."""
    variants = [variant_of(name) for name in arguments.against.split(",") if name]
    if arguments.max_tokens is not None and arguments.max_tokens < 2:
        raise InputError(f"--max-tokens is {arguments.max_tokens}; the limit is 2. Raise it.")
    question = Question(
        arguments.source,
        read_text(arguments.text),
        arguments.dtype,
        arguments.window,
        arguments.stride,
        arguments.max_tokens,
    )
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        measured = compare(question, variants, bar.show)
    print(json.dumps(fields(measured)) if arguments.json else "\n".join(table(measured)))
    return 0


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        NotFound: it can't be read.
        InputError: it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"{path} can't be read: {error.strerror}. Name a text file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 at byte {error.start}. Convert it.") from error


def table(measured: Sequence[Measured]) -> list[str]:
    """Return the result for people; the first row is what the others are compared with."""
    baseline = measured[0].perplexity
    rows = [f"{'variant':<24}{'perplexity':>12}{'change':>10}   over {baseline.num_tokens} tokens"]
    for one in measured:
        change = "" if one is measured[0] else f"{one.perplexity.change_from(baseline):+.2f} %"
        rows.append(f"{one.variant.name:<24}{one.perplexity.value:>12.4f}{change:>10}")
    return rows


def fields(measured: Sequence[Measured]) -> list[dict[str, object]]:
    """Return the result for programs."""
    baseline = measured[0].perplexity
    return [
        {
            "variant": one.variant.name,
            "perplexity": one.perplexity.value,
            "change_percent": one.perplexity.change_from(baseline),
            "nats": one.perplexity.nats,
            "num_tokens": one.perplexity.num_tokens,
        }
        for one in measured
    ]
