"""Read which adapters to serve beside a server's models, and what they may take, from options. Loads none.

Flags are called as in vLLM where the thing is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.serve_models import num_bytes
from cynosure.core.errors import CynosureError, InputError
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.json_file import parse_json_object
from cynosure.server.remote.adapters import NamedAdapter

_KEYS = ("name", "path", "base_model_name")


def add_adapter_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare adapters, and what they may take."""
    add = parser.add_argument_group("low-rank adapters of the models").add_argument
    add(
        "--lora-modules",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FOLDER",
        help='adapters that PEFT saved; of several models: {"name": "", "path": "", "base_model_name": ""}',
    )
    add("--enable-lora", action="store_true", help="take adapters, also where none is named at the start")
    add(
        "--lora-root",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="below which adapters may be loaded while the server runs, by an admin; repeatable (none)",
    )
    limits = AdapterLimits()
    add("--max-loras", type=int, metavar="N", help=f"adapters at one time ({limits.max_adapters})")
    add("--max-lora-rank", type=int, metavar="N", help=f"the largest rank ({limits.max_rank})")
    add(
        "--lora-memory",
        type=num_bytes,
        metavar="SIZE",
        help=f"for all adapters, of --memory ({limits.max_bytes >> 20}MiB)",
    )


def with_adapters(options: ServeOptions, arguments: argparse.Namespace) -> ServeOptions:
    """Return options that take adapters, where the arguments say so.

    Raises:
        InputError: an adapter's name, model or folder is missing or not known; a limit without adapters.
    """
    models = [model.name for model in options.models]
    adapters = _named(arguments.lora_modules, models)
    given = {
        "max_adapters": arguments.max_loras,
        "max_rank": arguments.max_lora_rank,
        "max_bytes": arguments.lora_memory,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not (adapters or arguments.enable_lora):
        if given or arguments.lora_root:
            raise InputError(
                "--lora-root, --max-loras, --max-lora-rank and --lora-memory are about adapters, and none "
                "are taken. Add --enable-lora or --lora-modules."
            )
        return options
    limits = AdapterLimits(**given)
    if len(adapters) > limits.max_adapters:
        raise InputError(
            f"--lora-modules names {len(adapters)} adapters; the limit is {limits.max_adapters}. Raise "
            "--max-loras."
        )
    for root in arguments.lora_root:
        if not root.expanduser().is_dir():
            raise InputError(f"--lora-root is {root}, which is no folder. Make it, or name another.")
    return replace(
        options,
        adapters=adapters,
        adapter_roots=tuple(arguments.lora_root),
        pool=replace(options.pool, adapters=limits),
    )


def _named(written: Sequence[str], models: Sequence[str]) -> tuple[NamedAdapter, ...]:
    adapters = tuple(_read(text, models) for text in written)
    names = [adapter.name for adapter in adapters]
    for name in names:
        if names.count(name) > 1 or name in models:
            raise InputError(f"two models are called {name!r}. Give the adapter another name.")
    return adapters


def _read(text: str, models: Sequence[str]) -> NamedAdapter:
    """One adapter, as `NAME=FOLDER` or as a JSON object."""
    if text.lstrip().startswith("{"):
        name, folder, model = _from_json(text)
    else:
        (name, _, folder), model = text.partition("="), None
    if not name or not folder:
        raise InputError(f"--lora-modules has {text[:100]!r}; write NAME=FOLDER.")
    if model is None and len(models) != 1:
        raise InputError(
            f"--lora-modules names {name!r}, and there are {len(models)} models. Write "
            '\'{"name": ..., "path": ..., "base_model_name": ...}\'.'
        )
    model = models[0] if model is None else model
    if model not in models:
        known = ", ".join(models) or "none"
        raise InputError(f"adapter {name!r} is to be of {model!r}; the models are: {known}. Correct it.")
    return NamedAdapter(name, model, Path(folder).expanduser().absolute())


def _from_json(text: str) -> tuple[str, str, str | None]:
    try:
        fields = parse_json_object(text, "--lora-modules")
    except CynosureError as error:
        raise InputError(f"{error} Write NAME=FOLDER.") from error
    unknown = fields.keys() - set(_KEYS)
    wrong = [key for key in _KEYS if not isinstance(fields.get(key, ""), str)]
    if unknown or wrong:
        raise InputError(
            f"--lora-modules has {sorted([*unknown, *wrong])[0]!r}, which is no text or not known; the keys "
            f"are: {', '.join(_KEYS)}. Correct it."
        )
    model = fields.get("base_model_name")
    return str(fields.get("name", "")), str(fields.get("path", "")), None if model is None else str(model)
