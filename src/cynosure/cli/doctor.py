"""Say what this machine has and what is missing. Repairs nothing."""

from __future__ import annotations

import argparse
import os
import platform
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cynosure.cli.home import data_home
from cynosure.cli.python_docs import index_path
from cynosure.core.errors import CynosureError
from cynosure.evaluate.results import describe_machine
from cynosure.kernels import kernels, why_none
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import open_index, python_source
from cynosure.server.listening import take_port
from cynosure.server.settings import ServerSettings

MIN_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; one that is not `is_fine` keeps something from working."""

    what: str
    found: str
    is_fine: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what may differ from the defaults."""
    parser.add_argument("--port", type=int, default=8000, help="the port to try (8000)")
    parser.add_argument("--index-dir", type=Path, metavar="FOLDER", help="where the index lies")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a finding; fail where something is missing."""
    folder = arguments.index_dir or data_home(os.environ) / "index"
    findings = [*machine(), *documentation(index_path(folder)), port(arguments.port)]
    for finding in findings:
        print(f"{'ok  ' if finding.is_fine else 'FAIL'} {finding.what}: {finding.found}")
    return 0 if all(finding.is_fine for finding in findings) else 1


def machine() -> list[Finding]:
    """Python, torch and the processor."""
    about = describe_machine()
    features = about["features"]
    assert isinstance(features, list)
    return [
        Finding("python", f"{platform.python_version()} at {sys.executable}", sys.version_info >= MIN_PYTHON),
        Finding("torch", metadata.version("torch")),
        Finding("processor", f"{about['cpu']}, {about['cores']} cores, {about['ram_gib']} GiB"),
        Finding("instructions", ", ".join(features) or "none that are looked for"),
        native_kernels(),
    ]


def native_kernels() -> Finding:
    """Which variant of the CPU kernels runs; without any all works, and slower."""
    if reason := why_none():
        return Finding("kernels", f"none, torch computes everything, several times slower: {reason}")
    found = kernels()
    return Finding("kernels", "; ".join([f"{found.variant}, {found.num_threads} threads", *found.rejected]))


def documentation(path: Path) -> list[Finding]:
    """The embedder and the index made with it."""
    try:
        embedder = load_minilm()
    except CynosureError as fault:
        return [Finding("embedder", str(fault), is_fine=False)]
    known = Finding("embedder", f"{embedder.model_id}, weights verified")
    if not path.exists():
        return [known, Finding("index", f"none yet at {path}; the first start builds it")]
    try:
        store = open_index(path, python_source(), embedder)
    except CynosureError as fault:
        return [known, Finding("index", str(fault), is_fine=False)]
    return [known, Finding("index", f"{len(store.contents.entries)} objects at {path}")]


def port(number: int) -> Finding:
    """Whether the server could listen."""
    settings = ServerSettings(port=number)
    try:
        listener: socket.socket = take_port(settings)
    except CynosureError as fault:
        return Finding("port", str(fault), is_fine=False)
    listener.close()
    return Finding("port", f"{number} of {settings.host} is free")
