"""Run the model of a command on the terminal as its options say. Knows nothing of what it is asked.

Flags are called as those of `cynosure serve`.
"""

from __future__ import annotations

import argparse

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import load_completer
from cynosure.engine.settings import KV_CACHE_DTYPES, EngineSettings


def add_local_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare in what a model is computed and kept, and whether it guesses ahead."""
    parser.add_argument("--dtype", default="auto", help="float32, bfloat16, keep, ... (auto)")
    parser.add_argument("--backend", default="auto", help="of attention, by name (auto)")
    parser.add_argument(
        "--quantization", metavar="CODE", help="int8, int4, ...: quantise weights while loading"
    )
    parser.add_argument(
        "--kv-cache-dtype", default="auto", choices=KV_CACHE_DTYPES, help="of keys and values (auto)"
    )
    parser.add_argument(
        "--num-speculative-tokens", type=int, default=0, metavar="N", help="guess up to N tokens ahead (0)"
    )


def is_any_given(arguments: argparse.Namespace) -> bool:
    """Whether an option says something else than it does by itself."""
    plain = argparse.ArgumentParser()
    add_local_arguments(plain)
    return any(vars(arguments)[name] != value for name, value in vars(plain.parse_args([])).items())


def load_named(source: str, arguments: argparse.Namespace) -> EngineCompleter:
    """Load a decoder, and start its engine as the options say.

    Raises:
        CheckpointError: it can't be loaded, or is no decoder.
        CynosureError: an option is not of this model, or outside its range.
    """
    settings = EngineSettings(
        kv_cache_dtype=arguments.kv_cache_dtype, num_speculative_tokens=arguments.num_speculative_tokens
    )
    return load_completer(
        source,
        source,
        arguments.dtype,
        arguments.backend,
        quantize=arguments.quantization,
        settings=settings,
    )
