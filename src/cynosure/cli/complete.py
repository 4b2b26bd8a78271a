"""Continue a prompt on the terminal, as tokens are chosen. Knows nothing of HTTP."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import aclosing

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_arguments import add_local_arguments, load_named
from cynosure.core.errors import EmptyInput, InputError
from cynosure.engine.sampling import SamplingParams
from cynosure.server.services import Generation
from cynosure.server.stop_text import StopText


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, the prompt and how to sample."""
    parser.add_argument("prompt", help="the text to continue; - reads it from standard input")
    parser.add_argument(
        "--model", required=True, metavar="FOLDER", help="a checkpoint's folder, a GGUF file, or a hub id"
    )
    parser.add_argument("--max-tokens", type=int, default=128, metavar="N", help="at most so many (128)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0, the default, takes the likeliest"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="draw the same tokens again")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before it; repeatable"
    )
    add_local_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the continuation only, so that it can be piped on."""
    prompt = sys.stdin.read() if arguments.prompt == "-" else arguments.prompt
    if not prompt:
        raise EmptyInput("the prompt is empty; there is nothing to continue. Write one.")
    if not all(arguments.stop):
        raise EmptyInput("a --stop text is empty; it would end everything at once. Leave it out.")
    if arguments.max_tokens < 1:
        raise InputError(f"--max-tokens is {arguments.max_tokens}; the limit is 1. Raise it.")
    sampling = SamplingParams(
        max_tokens=arguments.max_tokens, temperature=arguments.temperature, seed=arguments.seed
    )
    model = load_named(arguments.model, arguments)
    try:
        asyncio.run(_continue(model, prompt, sampling, StopText(arguments.stop)))
    finally:
        model.close()
    return 0


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
