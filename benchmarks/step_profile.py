"""Say where a decoding step's time goes: in kernels, and around them, part by part. Publishes nothing.

    python benchmarks/step_profile.py FOLDER [--quantize int8] [--clients 1 16] [--context 64] [--steps 64]

FOLDER holds a checkpoint, such as `python benchmarks/shapes.py` writes. Medians over the steps; the parts
around the kernels are timed from outside, each with what it calls, less what is listed on its own. Kernels
are timed by the clock on the wall, what stands around them by that of its thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch

from cynosure.attention.backends import native
from cynosure.engine import Request, SamplingParams, core, runner
from cynosure.engine.core import EngineCore
from cynosure.engine.sequence import Sequence
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native import decode_step
from cynosure.models.native import passes as native_passes
from cynosure.models.native import program as native_program

KERNELS = "kernels"


class Stopwatch:
    """Times functions in the place of which it is put; an inner one's time is not counted to the outer."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def watch(self, owner: object, name: str, part: str) -> None:
        """Put a timed twin in the place of a function or method."""
        function: Callable[..., object] = vars(owner)[name]
        is_class_method = isinstance(function, classmethod)
        plain = function.__func__ if is_class_method else function

        def timed(*args: object, **options: object) -> object:
            self._inner.append(0.0)
            start, wall = time.thread_time(), time.perf_counter()
            try:
                return plain(*args, **options)
            finally:
                wall, whole = time.perf_counter() - wall, time.thread_time() - start
                own = whole - self._inner.pop()
                self.taken[part] += wall if part == KERNELS else own
                self._inner[-1] += whole

        setattr(owner, name, classmethod(timed) if is_class_method else timed)

    def lap(self) -> dict[str, float]:
        """Return what was taken since the last lap, by part."""
        taken, self.taken = dict(self.taken), defaultdict(float)
        return taken


def watched() -> Stopwatch:
    """Put a stopwatch on every part of a step."""
    watch = Stopwatch()
    watch.watch(EngineCore, "_schedule", "schedule")
    watch.watch(EngineCore, "_prepare", "pages")
    watch.watch(runner.Batch, "pack", "batch and plan")
    watch.watch(native_passes, "choose", "lowering")
    watch.watch(native.NativeBackend, "refusals", "lowering")
    watch.watch(native_program.LayerProgram, "take", "lowering")
    watch.watch(native_program.LayerProgram, "begin", "tokens in, rotations")
    watch.watch(Decoder, "embedded", "embedding")
    watch.watch(native_passes.PagedCache, "slots", "slots")
    watch.watch(native_passes.Program, "run", KERNELS)
    watch.watch(decode_step, "begin_decode", "tokens in, rotations")
    watch.watch(decode_step.DecodeSteps, "run", "decoding step")
    watch.watch(runner.Runner, "run", "rest of the pass")
    watch.watch(core, "sample", "sampling")
    watch.watch(Sequence, "tell", "events")
    watch.watch(EngineCore, "step", "rest of the step")
    return watch


def decode(
    engine: EngineCore, watch: Stopwatch, num_clients: int, context: int, steps: int
) -> dict[str, float]:
    """Decode for some clients; return the median of each part in seconds."""
    for client in range(num_clients):
        prompt = torch.randint(1, 30_000, (context,)).tolist()
        params = SamplingParams(max_tokens=steps + 4, temperature=0.0, ignore_eos=True)
        engine.add(Request(f"{num_clients}-{client}", tuple(prompt), params), lambda event: None)
    counts: list[dict[str, float]] = []
    while engine.has_work:
        num_running = engine.snapshot.num_running
        watch.lap()
        engine.step(time.monotonic())
        if num_running == engine.snapshot.num_running == num_clients:
            counts.append(watch.lap())
    # The last steps are all decodes; chunks of prompts come before.
    laps = counts[-steps:]
    parts = sorted({part for lap in laps for part in lap})
    return {part: statistics.median(lap.get(part, 0.0) for lap in laps) for part in parts}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quantize")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64)
    arguments = parser.parse_args()
    graph = load(arguments.folder, quantize=arguments.quantize).graph
    assert isinstance(graph, Decoder)
    engine = EngineCore(graph, (), EngineSettings(), model_id="profile")
    engine._runner.time_passes()
    watch = watched()
    print(f"program refused: {engine._runner.refusal or 'no'}")
    print(f"decoding steps refused: {engine._runner.step_refusal or 'no'}")
    for num_clients in arguments.clients:
        parts = decode(engine, watch, num_clients, arguments.context, arguments.steps)
        whole = sum(parts.values())
        around = whole - parts.get(KERNELS, 0.0)
        print(
            f"\n{num_clients} sequences: {1e3 * whole:.2f} ms a step, {1e6 * around:.0f} us around kernels, ",
            end="",
        )
        print(f"{100 * around / whole:.1f}%")
        for part, taken in sorted(parts.items(), key=lambda item: -item[1]):
            print(f"  {part:<24}{1e6 * taken:>10.0f} us")
        for one in engine._runner.times:
            print(f"    {one.part:<22}{one.nanoseconds / 1e3:>10.0f} us in {one.num_calls} calls, last step")


if __name__ == "__main__":
    main()
