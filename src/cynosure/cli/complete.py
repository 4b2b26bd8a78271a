"""Continue a prompt on the terminal as tokens are chosen, or fill in in a file. Knows no protocol."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import aclosing

from cynosure.cli.complete_file import fill_in_file
from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import MAX_TOKENS
from cynosure.cli.editor.local_filler import model_source
from cynosure.cli.editor.model_arguments import add_model_arguments
from cynosure.cli.editor.place import place_in
from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_arguments import add_local_arguments, is_any_given, load_named
from cynosure.core.errors import EmptyInput, InputError
from cynosure.engine.sampling import SamplingParams
from cynosure.server.services import Generation
from cynosure.server.stop_text import StopText

#: Tokens of a continuation, where nobody says how many.
DEFAULT_MAX_TOKENS = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, the prompt or the place, and how to sample."""
    parser.add_argument(
        "prompt",
        help="FILE:LINE[:COLUMN] fills in there, at the end of the line or before a column, both from 1; any "
        "other text is continued; - reads it from standard input",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--block", action="store_true", help="in a file: to the end of the block, not of the line"
    )
    parser.add_argument("--json", action="store_true", help="in a file: print all fields")
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"at most so many ({DEFAULT_MAX_TOKENS}; of a line {MAX_TOKENS[Extent.LINE]}, of a block "
        f"{MAX_TOKENS[Extent.BLOCK]})",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0, the default, takes the likeliest"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="draw the same tokens again")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before it; repeatable"
    )
    add_local_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is written only, so that it can be piped on."""
    place = place_in(arguments.prompt)
    _check_options(arguments, in_file=place is not None)
    if place is not None:
        return fill_in_file(arguments, place)
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise EmptyInput("the prompt is empty; there is nothing to continue. Write one.")
    if not all(arguments.stop):
        raise EmptyInput("a --stop text is empty; it would end everything at once. Leave it out.")
    max_tokens = DEFAULT_MAX_TOKENS if arguments.max_tokens is None else arguments.max_tokens
    if max_tokens < 1:
        raise InputError(f"--max-tokens is {max_tokens}; the limit is 1. Raise it.")
    sampling = SamplingParams(max_tokens=max_tokens, temperature=arguments.temperature, seed=arguments.seed)
    _, source = model_source(arguments.model)
    model = load_named(source, arguments)
    try:
        asyncio.run(_continue(model, prompt, sampling, StopText(arguments.stop)))
    finally:
        model.close()
    return 0


def _check_options(arguments: argparse.Namespace, *, in_file: bool) -> None:
    """See that no option is given that would do nothing.

    Raises:
        InputError: one is.
    """
    of_prompts = {
        "--temperature": arguments.temperature != 0,
        "--seed": arguments.seed is not None,
        "--stop": bool(arguments.stop),
    }
    of_files = {
        "--block": arguments.block,
        "--json": arguments.json,
        "--url": arguments.url is not None,
        "--any-names": arguments.any_names,
    }
    given = next((name for name, is_so in (of_prompts if in_file else of_files).items() if is_so), None)
    if given is not None:
        what, other = ("a prompt", "a place in a file") if in_file else ("a place in a file", "a prompt")
        raise InputError(f"{given} is for {what}, and {other} is given. Leave it out.")
    if in_file and arguments.url is not None and is_any_given(arguments):
        raise InputError(
            "--url has a server compute, which chose how. Leave out what says how to compute here."
        )


async def _continue(model: EngineCompleter, prompt: str, sampling: SamplingParams, stop: StopText) -> None:
    asked = Generation(tuple(model.encode(prompt)), sampling)
    async with aclosing(model.complete(asked)) as tokens:
        async for together in tokens:
            _write("".join(stop.push(token.text) for token in together))
            if stop.is_stopped:
                break
    _write(stop.finish() + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
