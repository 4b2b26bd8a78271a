"""Put the rooms together into the services that answer requests. Knows nothing of HTTP or terminals.

Importing this imports torch; commands that need no model leave it alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cynosure.cli.engine_completer import EngineCompleter, load_completer
from cynosure.cli.local_embedder import LocalEmbedder
from cynosure.cli.python_docs import PythonDocs, index_path, open_python_docs
from cynosure.core.errors import InputError
from cynosure.models.minilm import load_minilm
from cynosure.models.tool_calls import ToolFormat
from cynosure.server.runtime import Report
from cynosure.server.services import Services


@dataclass(frozen=True)
class ServeOptions:
    """What to serve: models by name, and the documentation unless it is not wanted."""

    index_folder: Path
    models: tuple[tuple[str, str], ...] = ()
    with_docs: bool = True
    num_threads: int | None = None
    tool_format: ToolFormat | None = None


def named_models(sources: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read `NAME=FOLDER`, or `FOLDER`, which is called by its last part.

    Raises:
        InputError: two models have one name.
    """
    named: dict[str, str] = {}
    for source in sources:
        name, equals, folder = source.partition("=")
        if not equals or "/" in name:
            folder = source
            name = Path(source).expanduser().resolve().name
        if name in named or not name:
            raise InputError(f"two models are called {name!r}. Name one of them: --model OTHER={folder}.")
        named[name] = folder
    return tuple(named.items())


def assemble(options: ServeOptions, report: Report) -> Services:
    """Load everything; `report` is told of each stage."""
    if options.num_threads is not None:
        torch.set_num_threads(options.num_threads)
    embedders: dict[str, LocalEmbedder] = {}
    stores: dict[str, PythonDocs] = {}
    completers: dict[str, EngineCompleter] = {}
    if options.with_docs:
        report("Loading the embedder", 0, 0)
        # Callers keep vectors and compare them with another runner's: theirs are exact, in float32, which is
        # a view of the file. The index, all of whose vectors are made here, takes the fastest.
        local = LocalEmbedder(load_minilm("float32"))
        embedders[local.name] = local
        docs = open_python_docs(index_path(options.index_folder), load_minilm(), report)
        stores[docs.name] = docs
    for name, source in options.models:
        report(f"Loading {name}", 0, 0)
        completers[name] = load_completer(name, source, tool_format=options.tool_format)
    return Services(embedders, stores, completers, int(time.time()))
