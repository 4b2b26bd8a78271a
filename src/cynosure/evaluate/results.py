"""Write down what a command measured, with the machine. Knows nothing of what the numbers mean."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from cynosure.core.errors import InputError, NotFound

RESULTS = Path("results")
"""Where results live, seen from the root of the repository, where every command is run."""

SHOWN_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve")
_NAME = re.compile(r"[a-z0-9_]+")
_SCALARS = "a finite int or float, a text, a bool, None or a mapping of these"


@dataclass(frozen=True)
class Result:
    """One committed measurement: what was measured, by which command, where and when."""

    metrics: dict[str, object]
    command: str
    machine: dict[str, object]
    date: str


def write_result(name: str, metrics: Mapping[str, object], command: str, folder: Path = RESULTS) -> Path:
    """Write `folder/name.json`, whole or not at all.

    Args:
        name: lower-case letters, digits and underscores.
        metrics: finite numbers, texts, or mappings of these; a key holds no dot, since figures in
            Markdown address a value by its dotted path.
        command: what a reader types, at the repository's root, to get the same file.
        folder: must exist.

    Raises:
        InputError: a name, key or value that a figure could not show.
        NotFound: the folder does not exist.
    """
    if not folder.is_dir():
        raise NotFound(f"results folder {folder} does not exist. Run from the repository root, or pass one.")
    if not command.strip():
        raise InputError(f"result {name!r} has no command; every number needs one. Pass what a reader types.")
    path = _path(name, folder)
    result = Result(_checked(metrics, name), command, describe_machine(), f"{datetime.now(UTC):%Y-%m-%d}")
    scratch = path.with_suffix(f".{os.getpid()}.part")
    scratch.write_text(json.dumps(asdict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    scratch.replace(path)
    return path


def read_result(name: str, folder: Path = RESULTS) -> Result:
    """Read what `write_result` wrote.

    Raises:
        NotFound: nobody measured it yet.
        InputError: the file is damaged or was written by hand.
    """
    path = _path(name, folder)
    if not path.is_file():
        raise NotFound(f"result {path} does not exist. Run the benchmark or evaluation that writes it.")
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as fault:
        raise InputError(f"result {path} is not readable ({fault}). Run its command again.") from fault


def describe_machine() -> dict[str, object]:
    """Say on what the numbers were taken: the processor and what it can do, memory, versions."""
    model, flags = _processor(Path("/proc/cpuinfo"))
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "features": [feature for feature in SHOWN_FEATURES if feature in flags],
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
    }


def _processor(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    """Read the first processor's name and feature flags; x86 says `flags`, Arm says `Features`."""
    if not cpuinfo.is_file():
        return platform.processor() or "unknown", frozenset()
    fields: dict[str, str] = {}
    for line in cpuinfo.read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags", fields.get("features", ""))
    return fields.get("model name", platform.machine()), frozenset(flags.split())


def _path(name: str, folder: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise InputError(f"result name {name!r} is not usable. Take lower-case letters, digits and _ only.")
    return folder / f"{name}.json"


def _checked(metrics: Mapping[str, object], where: str) -> dict[str, object]:
    """Copy the metrics, refusing what Markdown could not address or JSON could not hold."""
    if not metrics:
        raise InputError(f"{where} holds no metric. Pass at least one.")
    checked: dict[str, object] = {}
    for key, value in metrics.items():
        if "." in key or not key:
            raise InputError(f"metric key {key!r} in {where} is not addressable. Take a key without a dot.")
        if isinstance(value, Mapping):
            checked[key] = _checked(value, f"{where}.{key}")
        elif value is None or isinstance(value, str | int):
            checked[key] = value
        elif isinstance(value, float) and math.isfinite(value):
            checked[key] = float(value)  # a numpy float64 is a float; JSON gets the plain one
        else:
            raise InputError(f"{where}.{key} is {value!r}; a metric is {_SCALARS}. Convert or drop it.")
    return checked
