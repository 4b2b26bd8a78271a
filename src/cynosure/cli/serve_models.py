"""Read which models to serve, and how, from options. Loads none.

Flags are called as in vLLM where the thing is the same.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from cynosure.cli.assembly import ServeOptions, named_models
from cynosure.cli.home import PACKED_FOLDER
from cynosure.cli.serve_logs import level_of
from cynosure.core.errors import InputError
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import DiskSettings, PoolSettings
from cynosure.engine.settings import KERNELS, KV_CACHE_DTYPES, MAX_TOKENS_AHEAD, EngineSettings
from cynosure.engine.wire.messages import MAX_STREAM_DELAY_S, STREAM_DELAY_S
from cynosure.models.chat.tool_calls import ToolFormat
from cynosure.server.access.tenants import read_secret
from cynosure.server.remote.supervisor import SupervisorSettings

MAX_TIMEOUT_S = 24 * 60 * 60

#: Keys the names and checksums of `--cache-dir`; it lies in Cynosure's home, apart from what it guards.
CACHE_SECRET_FILE = "cache-secret"
DEFAULT_CACHE_BYTES = 10 * 1000**3

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_BINARY = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", re.IGNORECASE)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare models, what they are called, and what they may use."""
    add = parser.add_argument_group("models, and what they may use").add_argument
    add(
        "models",
        nargs="*",
        metavar="[NAME=]FOLDER",
        help="folders of checkpoints of any kind (decoders, encoders, encoder-decoders), GGUF files, hub ids",
    )
    add("--model", action="append", default=[], metavar="[NAME=]FOLDER", help="the same; repeatable")
    add("--served-model-name", metavar="NAME", help="what requests call the one model")
    add("--pin", action="append", default=[], metavar="NAME", help="a model that stays loaded; repeatable")
    add("--lazy", action="store_true", help="load a model at its first request, not before")
    add(
        "--memory",
        type=num_bytes,
        metavar="SIZE",
        help="for all weights and caches: 12GB, 8GiB (80%% of all)",
    )
    add("--dtype", default="auto", help="auto, float32, bfloat16, float16, float64, keep (auto)")
    add("--quantization", metavar="CODE", help="int8, int4, ...: quantise weights while loading")
    add("--max-model-len", type=int, metavar="N", help="longest prompt and answer (as the model declares)")
    add("--attention-backend", default="auto", metavar="NAME", help="by name, or auto (auto)")
    add("--kv-cache-memory-bytes", type=num_bytes, metavar="SIZE", help="of each model, exactly")
    add("--kernels", default="auto", choices=KERNELS, help="what computes linear layers (auto)")
    add("--kv-cache-dtype", default="auto", choices=KV_CACHE_DTYPES, help="of keys and values (auto)")
    add("--block-size", type=int, metavar="N", help="tokens of a page (32)")
    add("--max-num-seqs", type=int, metavar="N", help="sequences in a step (64)")
    add("--max-num-batched-tokens", type=int, metavar="N", help="tokens in a step (1024)")
    add(
        "--enable-prefix-caching",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="share pages of a common beginning among a tenant's requests (on)",
    )
    add("--page-bounds", action="store_true", help="let requests attend to selected pages alone (off)")
    add("--num-speculative-tokens", type=int, metavar="N", help="guess up to N tokens ahead (0: none)")
    ahead = f"decode up to N greedy tokens ahead where steps are short ({MAX_TOKENS_AHEAD})"
    add("--max-tokens-ahead", type=int, metavar="N", default=MAX_TOKENS_AHEAD, help=ahead)
    add("--cache-dir", type=Path, metavar="FOLDER", help="keep sessions on disk that ask for it, here")
    add(
        "--packed-weights",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep packed weights on disk, so that the next start is faster (on)",
    )
    add("--cache-bytes", type=num_bytes, metavar="SIZE", help="of that folder (10GB)")
    add(
        "--tool-call-parser",
        choices=[format.value for format in ToolFormat],
        help="how the models write calls of functions (as their chat templates teach)",
    )
    add("--threads", type=int, metavar="N", help="of computing (as many as cores)")
    add(
        "--stream-delay-ms",
        type=float,
        default=1000 * STREAM_DELAY_S,
        metavar="MS",
        help="how long a token may wait for the next ones, to leave with them; 0: not at all (40)",
    )
    add(
        "--step-timeout",
        type=float,
        default=SupervisorSettings.step_s,
        metavar="SECONDS",
        help="a step that takes longer hangs; the engine is started again (300)",
    )
    add(
        "--load-timeout",
        type=float,
        default=SupervisorSettings.load_s,
        metavar="SECONDS",
        help="a model that takes longer to load hangs; the engine is started again (1800)",
    )


def options_of(arguments: argparse.Namespace, home: Path) -> ServeOptions:
    """What to serve; `home` is where Cynosure keeps its files.

    Raises:
        InputError: a name that is none of the models', or a number outside its range.
        EnvironmentFault: the secret of the cache folder can't be kept in `home`.
    """
    if arguments.threads is not None and arguments.threads < 1:
        raise InputError(f"--threads is {arguments.threads}; at least 1 is needed. Raise it.")
    if arguments.max_model_len is not None and arguments.max_model_len < 1:
        raise InputError(f"--max-model-len is {arguments.max_model_len}; at least 1 is needed. Raise it.")
    patience = {"--step-timeout": arguments.step_timeout, "--load-timeout": arguments.load_timeout}
    for flag, seconds in patience.items():
        if not 1 <= seconds <= MAX_TIMEOUT_S:
            raise InputError(f"{flag} is {seconds}; it may be 1 to {MAX_TIMEOUT_S}. Change it.")
    if not 0 <= arguments.stream_delay_ms <= 1000 * MAX_STREAM_DELAY_S:
        raise InputError(
            f"--stream-delay-ms is {arguments.stream_delay_ms}; it may be 0 to "
            f"{1000 * MAX_STREAM_DELAY_S:g}. Change it."
        )
    parser = arguments.tool_call_parser
    return ServeOptions(
        index_folder=arguments.index_dir or home / "index",
        models=_served(arguments),
        with_docs=not arguments.without_docs,
        num_threads=arguments.threads,
        tool_format=None if parser is None else ToolFormat(parser),
        pool=_pool(arguments, home),
        is_lazy=arguments.lazy,
        log_level=level_of(arguments),
        logs_content=arguments.log_content,
        stream_delay_s=arguments.stream_delay_ms / 1000,
        step_timeout_s=arguments.step_timeout,
        load_timeout_s=arguments.load_timeout,
    )


def num_bytes(text: str) -> int:
    """Read a size: bytes, or a number with K, M, G, T (thousands) or Ki, Mi, Gi, Ti; a B may follow.

    Raises:
        ArgumentTypeError: it is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 12GB, 8GiB or a number of bytes")
    unit = (found[2] or "").capitalize()
    return int(float(found[1]) * (_UNITS | _BINARY)[unit])


def _served(arguments: argparse.Namespace) -> tuple[ServedModel, ...]:
    named = named_models([*arguments.models, *arguments.model])
    if arguments.served_model_name is not None:
        named = _renamed(named, arguments.served_model_name)
    unknown = set(arguments.pin) - {name for name, _ in named}
    if unknown:
        known = ", ".join(name for name, _ in named) or "none"
        raise InputError(f"--pin names {sorted(unknown)[0]!r}; the models are: {known}. Correct it.")
    return tuple(
        ServedModel(
            name,
            source,
            dtype=arguments.dtype,
            quantize=arguments.quantization,
            backend=arguments.attention_backend,
            is_pinned=name in arguments.pin,
            max_model_len=arguments.max_model_len,
        )
        for name, source in named
    )


def _renamed(named: Sequence[tuple[str, str]], name: str) -> tuple[tuple[str, str], ...]:
    if len(named) != 1:
        raise InputError(
            f"--served-model-name is {name!r}, and there are {len(named)} models. Write NAME=FOLDER for each."
        )
    return ((name, named[0][1]),)


def _disk(arguments: argparse.Namespace, home: Path) -> DiskSettings | None:
    folder, size = arguments.cache_dir, arguments.cache_bytes
    if folder is None:
        if size is not None:
            raise InputError(f"--cache-bytes is {size}, and there is no --cache-dir. Name a folder.")
        return None
    if not arguments.enable_prefix_caching:
        raise InputError("--cache-dir needs the prefix cache. Leave --no-enable-prefix-caching out.")
    secret = read_secret(home / CACHE_SECRET_FILE)
    return DiskSettings(folder.expanduser().absolute(), secret, DEFAULT_CACHE_BYTES if size is None else size)


def _pool(arguments: argparse.Namespace, home: Path) -> PoolSettings:
    given = {
        "block_size": arguments.block_size,
        "max_num_seqs": arguments.max_num_seqs,
        "max_num_batched_tokens": arguments.max_num_batched_tokens,
        "num_speculative_tokens": arguments.num_speculative_tokens,
        "max_tokens_ahead": arguments.max_tokens_ahead,
    }
    engine = EngineSettings(
        has_prefix_cache=arguments.enable_prefix_caching,
        has_page_bounds=arguments.page_bounds,
        kv_cache_dtype=arguments.kv_cache_dtype,
        kernels=arguments.kernels,
        **{name: value for name, value in given.items() if value is not None},
    )
    return PoolSettings(
        memory_bytes=arguments.memory,
        engine=engine,
        kv_cache_bytes=arguments.kv_cache_memory_bytes,
        disk=_disk(arguments, home),
        packed_folder=home / PACKED_FOLDER if arguments.packed_weights else None,
    )
