"""Compare our embedder with sentence-transformers and onnxruntime on 1,000 texts. Knows nothing of decoders.

    python -m benchmarks.encoders [--write] [--quick] [--peers .peers]

The model is all-MiniLM-L6-v2, the texts are docstrings of the standard library, of mixed length, always the
same for one interpreter; what is longer than 256 tokens is cut by all alike. From text to vectors of length
1, tokenizer included, in processes that take turns; medians of texts a second. `cosine` is the least between
our vector of a text and that of the plain float32 model. Peers compute in float32, in bfloat16 and, quantised
dynamically, in int8: the best in 16 bits or more counts beside our bfloat16, the best of all beside our int8.
"""

from __future__ import annotations

import argparse
import inspect
import json
import pkgutil
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.line_child import ChildEnded, LineChild
from benchmarks.speed_rows import compared, lines_of
from cynosure.evaluate.results import write_result
from cynosure.models.embedder import load_embedder
from cynosure.models.minilm_package import minilm_folder
from cynosure.models.native.graph import use_kernels

COMMAND = "python -m benchmarks.encoders --write"
SCRIPT = Path(__file__).parent / "peer" / "run_encoders.py"
NUM_TEXTS = 1000
#: Packages of the standard library whose documentation is read.
PACKAGES = ("asyncio", "collections", "concurrent", "email", "http", "json", "logging", "urllib", "xml")
MODULES = (
    "argparse", "ast", "configparser", "csv", "datetime", "decimal", "difflib", "fractions", "ftplib",
    "functools", "heapq", "inspect", "ipaddress", "itertools", "math", "mailbox", "os", "pathlib",
    "random", "shutil", "smtplib", "socket", "sqlite3", "ssl", "statistics", "string", "subprocess",
    "tarfile", "tempfile", "textwrap", "threading", "unittest", "uuid", "zipfile",
)  # fmt: skip
#: Everybody who is asked; ours by dtype or code.
OURS = ("bf16", "int8")
PEERS = {
    "bf16": (
        ("sentence-transformers", "float32"),
        ("sentence-transformers", "bf16"),
        ("onnxruntime", "float32"),
    ),
    "int8": (("onnxruntime", "int8"),),
}
EXACT = "sentence-transformers float32"


def texts(count: int) -> list[str]:
    """Docstrings of modules, classes and functions, drawn by a seed."""
    names = set(MODULES)
    for package in PACKAGES:
        names |= {
            found.name for found in pkgutil.iter_modules(import_module(package).__path__, f"{package}.")
        }
    found: set[str] = set()
    for name in sorted(names - {"asyncio.__main__", "json.tool"}):
        if ".windows" in name or name.endswith("__main__"):
            continue
        module = import_module(name)
        things = [module, *vars(module).values()]
        things += [part for thing in things if inspect.isclass(thing) for part in vars(thing).values()]
        found |= {inspect.getdoc(thing) or "" for thing in things if callable(thing) or thing is module}
    usable = sorted(text for text in found if len(text) > 20)
    return random.Random(0).sample(usable, count)


def serve(folder: Path, file: Path, bits: str) -> None:
    """Embed with ours, as the peers' script does with theirs."""
    embedder = load_embedder(folder, quantize=None if bits == "bf16" else bits)
    use_kernels(embedder.graph, next(embedder.graph.parameters()).dtype)
    given = json.loads(file.read_text())
    vectors = embedder.embed_counted(given, truncate=True).vectors
    np.save(file.with_name(f"ours {bits}.npy"), vectors)
    print(json.dumps({"ready": f"ours {bits}"}), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        embedder.embed_counted(given, truncate=True)
        print(json.dumps({"texts_per_s": len(given) / (time.perf_counter() - begun)}), flush=True)


def started(file: Path, peers: Path) -> dict[str, LineChild]:
    """All who are there, by name."""
    folder = minilm_folder()
    own = [sys.executable, "-m", "benchmarks.encoders", "--serve", str(folder), str(file)]
    commands = [[*own, bits] for bits in OURS]
    python = peers / "encoders" / "bin" / "python"
    if python.exists():
        commands += [
            [str(python), str(SCRIPT), program, str(folder), str(file), "--to", bits]
            for of_bits in PEERS.values()
            for program, bits in of_bits
        ]
    else:
        print("left out: the peers are not installed. `make peers` installs them.")
    children: dict[str, LineChild] = {}
    for command in commands:
        try:
            child = LineChild(command)
        except ChildEnded as end:
            print(f"left out: {' '.join(command[-3:])}: {end}")
        else:
            children[child.name] = child
    return children


def rows_of(medians: Mapping[str, float], cosines: Mapping[str, float]) -> dict[str, dict[str, object]]:
    """Ours beside the best peer that is as exact."""
    rows: dict[str, dict[str, object]] = {}
    rivals: list[str] = []
    for bits in OURS:
        rivals += [" ".join(peer) for peer in PEERS[bits] if " ".join(peer) in medians]
        ours = f"ours {bits}"
        if rivals and ours in medians:
            best = max(rivals, key=lambda name: medians[name])
            more = {"cosine": cosines[ours], "peer_cosine": cosines[best]}
            rows[bits] = compared(medians[ours], medians[best], best, **more)
    return rows


def least_cosines(folder: Path) -> dict[str, float]:
    """Between each one's vectors and those of the exact peer, the least over the texts."""
    vectors = {file.stem: np.load(file).astype(np.float64) for file in folder.glob("*.npy")}
    exact = vectors.get(EXACT)
    if exact is None:
        return dict.fromkeys(vectors, float("nan"))
    norm = np.linalg.norm
    return {
        name: float(((found * exact).sum(1) / norm(found, axis=1) / norm(exact, axis=1)).min())
        for name, found in vectors.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/encoders.json")
    parser.add_argument("--quick", action="store_true", help="ask once: a first impression")
    parser.add_argument("--texts", type=int, default=NUM_TEXTS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="where `make peers` put them")
    parser.add_argument("--serve", nargs=3, metavar=("FOLDER", "TEXTS", "BITS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        folder, file, bits = arguments.serve
        serve(Path(folder), Path(file), bits)
        return
    repeats = 1 if arguments.quick else arguments.repeats
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.json"
        file.write_text(json.dumps(texts(arguments.texts)))
        children = started(file, arguments.peers)
        rates: dict[str, list[float]] = {name: [] for name in children}
        for _ in range(repeats):
            for name, child in children.items():
                rates[name].append(child.ask("all")["texts_per_s"])
        for child in children.values():
            child.end()
        medians = {name: statistics.median(found) for name, found in rates.items()}
        cosines = least_cosines(Path(scratch))
    for name, rate in medians.items():
        print(f"{name:<32}{rate:>8.1f} texts a second, cosine {cosines[name]:.5f}")
    rows = rows_of(medians, cosines)
    print("\n".join(lines_of({"embedding": rows})))
    if arguments.write:
        print(
            write_result(
                "encoders", {"embedding": rows, "texts": arguments.texts, "repeats": repeats}, COMMAND
            )
        )


if __name__ == "__main__":
    main()
