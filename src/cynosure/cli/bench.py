"""Measure how fast a checkpoint or a running server answers. Knows nothing of how a moment is noted.

A checkpoint is measured in this process, without a server; a server by its own protocol, wherever it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from rich.console import Console

from cynosure.cli.loading_bar import LoadingBar
from cynosure.core.errors import InputError
from cynosure.evaluate.http_load import HttpLoad, LoadSettings
from cynosure.evaluate.timing import Summary

KEY_VARIABLE = "OPENAI_API_KEY"

MAX_CLIENTS, MAX_RATE = 1024, 10_000

#: For a checkpoint: each load is repeated, and the run in the middle is told.
_NUM_REPEATS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is measured, under which loads."""
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        metavar="FOLDER",
        help="a decoder's folder, or a hub id, measured in this process",
    )
    add("--url", help="of a running server instead, such as http://127.0.0.1:8000")
    add("--model", metavar="NAME", help="what that server calls the model")
    add("--clients", type=whole_numbers, default=None, metavar="LIST", help="requests at one time (1,4,16)")
    add(
        "--rate",
        type=positive_numbers,
        default=[],
        metavar="LIST",
        help="requests a second; of a server only",
    )
    add("--input-len", type=int, default=256, metavar="N", help="tokens of a prompt (256)")
    add("--output-len", type=int, default=64, metavar="N", help="tokens of an answer (64)")
    add("--num-prompts", type=int, metavar="N", help="of one load on a server (4 a client, 32 at a rate)")
    add("--seed", type=int, default=0, metavar="N", help="of prompts and moments (0)")
    add("--dtype", default="auto", help="of a checkpoint: float32, bfloat16, ... (auto)")
    add("--quantization", metavar="CODE", help="of a checkpoint: int8, int4, ...")
    add("--json", action="store_true", help="print all fields")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a load; fail where a request was not answered."""
    if (arguments.source is None) == (arguments.url is None):
        raise InputError("bench measures a FOLDER, or a server at --url. Name one of them.")
    for name in ("input_len", "output_len"):
        if vars(arguments)[name] < 1:
            raise InputError(
                f"--{name.replace('_', '-')} is {vars(arguments)[name]}; the limit is 1. Raise it."
            )
    clients = arguments.clients or ([] if arguments.rate else [1, 4, 16])
    measured = _checkpoint(arguments, clients) if arguments.url is None else _server(arguments, clients)
    if arguments.json:
        print(json.dumps([{"load": load, **asdict(summary)} for load, summary in measured.items()]))
    else:
        print("\n".join(table(measured)))
    return 1 if any(summary.num_failed for summary in measured.values()) else 0


def whole_numbers(text: str) -> list[int]:
    """Read `1,4,16`; raises ArgumentTypeError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= MAX_CLIENTS for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of numbers from 1 to {MAX_CLIENTS}; write 1,4,16"
        )
    return [int(part) for part in parts]


def positive_numbers(text: str) -> list[float]:
    """Read `0.5,2`; raises ArgumentTypeError."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(0 < number <= MAX_RATE for number in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of numbers above 0, {MAX_RATE} at most; write 0.5,2"
        )
    return numbers


def table(measured: Mapping[str, Summary]) -> list[str]:
    """The result for people; milliseconds and tokens a second."""
    rows = [
        f"{'load':<14}{'tokens':>11}{'TTFT p50':>11}{'p99':>9}{'TPOT p50':>11}{'p99':>9}"
        f"{'prefill/s':>11}{'output/s':>10}{'failed':>8}"
    ]
    for load, one in measured.items():
        tokens = f"{one.prompt_tokens:.0f}+{one.output_tokens:.0f}"
        rows.append(
            f"{load:<14}{tokens:>11}{_ms(one.ttft_p50_s):>11}{_ms(one.ttft_p99_s):>9}"
            f"{_ms(one.tpot_p50_s):>11}{_ms(one.tpot_p99_s):>9}{_rate(one.prefill_tokens_per_s):>11}"
            f"{one.tokens_per_s:>10.1f}{one.num_failed:>8}"
        )
    return [*rows, "times in milliseconds: to the first token (TTFT), per later token (TPOT)"]


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


def _rate(tokens_per_s: float | None) -> str:
    return "-" if tokens_per_s is None else f"{tokens_per_s:.0f}"


def _checkpoint(arguments: argparse.Namespace, clients: Sequence[int]) -> dict[str, Summary]:
    given = {"--rate": arguments.rate, "--model": arguments.model, "--num-prompts": arguments.num_prompts}
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option} is for a server, and a FOLDER is measured. Leave it out, or give --url."
            )
    # Late: who measures a server needs no torch.
    engine_load = importlib.import_module("cynosure.evaluate.engine_load")
    load = importlib.import_module("cynosure.models.load").load
    shape = engine_load.Shape(arguments.input_len, arguments.output_len)
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        bar.show(f"Loading {arguments.source}", 0, 0)
        model = load(arguments.source, dtype=arguments.dtype, quantize=arguments.quantization)
        engine = engine_load.EngineLoad(model, shape, max(clients), arguments.seed)
        try:
            measured = {}
            engine.at_once(max(clients), replace(shape, output_len=2))
            for count in clients:
                bar.show(f"Measuring {count} at once", 0, 0)
                runs = [engine.at_once(count) for _ in range(_NUM_REPEATS)]
                middle = statistics.median_low([one.tokens_per_s for one in runs])
                measured[_named(count)] = next(one for one in runs if one.tokens_per_s == middle)
            return measured
        finally:
            engine.close()


def _server(arguments: argparse.Namespace, clients: Sequence[int]) -> dict[str, Summary]:
    if arguments.model is None:
        raise InputError("--url needs --model, what the server calls the model; its /v1/models lists them.")
    if arguments.dtype != "auto" or arguments.quantization is not None:
        raise InputError(
            "--dtype and --quantization are of a FOLDER; the server chose its own. Leave them out."
        )
    key = os.environ.get(KEY_VARIABLE)
    settings = LoadSettings(
        url=arguments.url.rstrip("/").removesuffix("/v1"),
        model=arguments.model,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        input_len=arguments.input_len,
        output_len=arguments.output_len,
        seed=arguments.seed,
    )
    return asyncio.run(_loads(settings, clients, arguments.rate, arguments.num_prompts))


async def _loads(
    settings: LoadSettings, clients: Sequence[int], rates: Sequence[float], num_prompts: int | None
) -> dict[str, Summary]:
    measured: dict[str, Summary] = {}
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        bar.show(f"Asking {settings.url}", 0, 0)
        for place, count in enumerate(clients):
            load = await HttpLoad.ready(_apart(settings, num_prompts or 4 * count, place))
            bar.show(f"Measuring {count} at once", 0, 0)
            measured[_named(count)] = await load.with_clients(count)
        for place, rate in enumerate(rates, len(clients)):
            load = await HttpLoad.ready(_apart(settings, num_prompts or 32, place))
            bar.show(f"Measuring {rate:g} a second", 0, 0)
            measured[f"{rate:g} a second"] = await load.at_rate(rate)
    return measured


def _apart(settings: LoadSettings, num_prompts: int, place: int) -> LoadSettings:
    """Settings with prompts that no other load has sent, so that no server knows their beginnings."""
    return replace(settings, num_prompts=num_prompts, seed=settings.seed + 1_000_003 * (place + 1))


def _named(count: int) -> str:
    return f"{count} at once"
