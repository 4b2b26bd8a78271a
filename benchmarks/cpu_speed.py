"""Compare our engine with llama.cpp inside a process, at equal bits; prints a table, and ratios.

    python -m benchmarks.cpu_speed [--write] [--shape qwen2.5-0.5b] [--repeats 5] [--peers .peers]

Both compute the same random-weight checkpoint on all cores. Ours are whole steps of the engine, scheduler,
passes, greedy sampling and events included; llama.cpp's are calls of its batched interface, no sampler. Each
runs in a process of its own, and they take turns, one measurement each. llama.cpp runs once with flash
attention and once without; the better of the two medians counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from benchmarks.shapes import SHAPES, write_checkpoint
from cynosure.engine import Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.models.decoder import Decoder
from cynosure.models.load import load

HERE = Path(__file__).parent
COMMAND = "python -m benchmarks.cpu_speed --write"

#: Ours against theirs: 16, about 8 and about 4 bits a weight.
PAIRS = {"bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
#: What is asked of each; llama.cpp's own words in `peer_llama.py`.
ASKED = ("prefill 512", "decode 1 48 512", "decode 16 16 64", "decode 32 16 64")


class Ours:
    """An engine, asked for the same as the peer."""

    def __init__(self, folder: Path, scheme: str) -> None:
        graph = load(folder, quantize=None if scheme == "bf16" else scheme).graph
        assert isinstance(graph, Decoder)
        settings = EngineSettings(max_num_batched_tokens=2048, chunk_size=2048, has_prefix_cache=False)
        self.engine = EngineCore(graph, (), settings, model_id="speed")
        self.vocab_size = graph.spec.vocab_size

    def _add(self, name: str, length: int, num_tokens: int) -> None:
        prompt = tuple(torch.randint(1, self.vocab_size, (length,)).tolist())
        params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        self.engine.add(Request(name, prompt, params), lambda event: None)

    def prefill(self, length: int) -> float:
        """Tokens a second of one prompt, its first token included."""
        self._add("one", length, 1)
        begun = time.perf_counter()
        while self.engine.has_work:
            self.engine.step(time.monotonic())
        return length / (time.perf_counter() - begun)

    def decode(self, num_seqs: int, num_steps: int, length: int) -> float:
        """Tokens a second of so many sequences that have `length` tokens each."""
        for seq in range(num_seqs):
            self._add(str(seq), length, 1_000)
        while self.engine.snapshot.num_running < num_seqs:
            self.engine.step(time.monotonic())
        for _ in range(3):
            self.engine.step(time.monotonic())
        begun = time.perf_counter()
        for _ in range(num_steps):
            self.engine.step(time.monotonic())
        taken = time.perf_counter() - begun
        for seq in range(num_seqs):
            self.engine.cancel(str(seq))
        return num_seqs * num_steps / taken


def serve(folder: Path, scheme: str) -> None:
    """Answer what is asked on standard input, a line each, as `peer_llama.py` does."""
    ours = Ours(folder, scheme)
    for line in sys.stdin:
        kind, *numbers = line.split()
        measure = {"prefill": ours.prefill, "decode": ours.decode}[kind]
        print(json.dumps({"asked": line.strip(), "tokens_per_s": measure(*map(int, numbers))}), flush=True)


@dataclass(frozen=True)
class Runner:
    """A process that answers."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, what: str) -> float:
        """One measurement."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n")
        stdin.flush()
        return _answer(stdout, self.name)

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def _answer(stream: IO[str], name: str) -> float:
    line = stream.readline()
    assert line, f"{name} ended without an answer"
    return float(json.loads(line)["tokens_per_s"])


def start(name: str, command: list[str]) -> Runner:
    """A process with pipes."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return Runner(name, subprocess.Popen(command, text=True, env=environment, **pipes))


def memory_gb_per_s() -> float:
    """The fastest of many reads of a large array by all cores."""
    numbers = torch.ones(1 << 28)
    best = float("inf")
    for _ in range(12):
        begun = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - begun)
    return numbers.nbytes / best / 1e9


def measure(runners: list[Runner], repeats: int) -> dict[str, dict[str, float]]:
    """The median of each, repeats interleaved; the first round warms up."""
    found: dict[str, dict[str, list[float]]] = {asked: {} for asked in ASKED}
    for repeat in range(repeats + 1):
        for asked in ASKED:
            for runner in runners:
                figure = runner.ask(asked)
                if repeat:
                    found[asked].setdefault(runner.name, []).append(figure)
    return {
        asked: {name: statistics.median(figures) for name, figures in by_name.items()}
        for asked, by_name in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/cpu_speed.json")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="repeatable (both small ones)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="where `make peers` put llama.cpp")
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "SCHEME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve[0]), arguments.serve[1])
        return
    threads = len(os.sched_getaffinity(0))
    bandwidth = memory_gb_per_s()
    rows: dict[str, object] = {}
    print(f"{threads} cores, {bandwidth:.1f} GB/s read; tokens a second\n")
    print(f"{'shape':<14}{'bits':<6}{'what':<18}{'ours':>9}{'llama.cpp':>11}{'ratio':>8}")
    for shape in arguments.shape or ["smollm2-135m", "qwen2.5-0.5b"]:
        with tempfile.TemporaryDirectory() as scratch:
            folder, file = Path(scratch) / "checkpoint", Path(scratch) / "checkpoint.gguf"
            write_checkpoint(SHAPES[shape], folder)
            python = str(arguments.peers / "llama" / "bin" / "python")
            subprocess.run([python, str(HERE / "gguf_export.py"), str(folder), str(file)], check=True)
            for ours, theirs in PAIRS.items():
                peer = [python, str(HERE / "peer_llama.py"), str(file), "--to", theirs, "--threads"]
                own = [sys.executable, "-m", "benchmarks.cpu_speed", "--serve", str(folder), ours]
                # Written once, before two processes want it.
                start("warm", [*peer, str(threads)]).end()
                runners = [
                    start("ours", own),
                    start("plain", [*peer, str(threads)]),
                    start("flash", [*peer, str(threads), "--flash"]),
                ]
                for asked, found in measure(runners, arguments.repeats).items():
                    best = max(found["plain"], found["flash"])
                    ratio = found["ours"] / best
                    print(f"{shape:<14}{ours:<6}{asked:<18}{found['ours']:>9.1f}{best:>11.1f}{ratio:>8.2f}")
                    name = f"{shape} {ours} {asked}"
                    rows[name] = {"ours": found["ours"], "best_peer": best, "ratio": ratio}
                for runner in runners:
                    runner.end()
    if arguments.write:
        told = {
            "peer": "llama.cpp",
            "threads": threads,
            "repeats": arguments.repeats,
            "read_gb_per_s": bandwidth,
        }
        print(write_result("cpu_speed", {"rows": rows, "setting": told}, COMMAND))


if __name__ == "__main__":
    main()
