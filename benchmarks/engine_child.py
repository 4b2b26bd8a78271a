"""Answer measurements with our engine, in this process or behind its server. Knows nothing of peers.

    python -m benchmarks.engine_child FOLDER int8 [--through-server]

In process, a step is one of the engine, whole: scheduler, passes, greedy sampling, events; a short one
decodes up to three tokens ahead (`engine/run_ahead.py`), as it does in the server.

Through the server, the client is this process. Prompts are admitted one after the other, so that a fast
model has written some tokens before the last begins: streams have room for 64 more for each that is beside
them, and are left once the slowest has enough. What counts is the time in which all run. Tokens come some at
a time: of each stream those count that came after its first event in that time, up to its last.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import string
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import torch

from benchmarks.peer.lines import WARM_STEPS, answer
from cynosure.engine import Event, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import MAX_TOKENS_AHEAD, EngineSettings
from cynosure.evaluate.event_stream import DONE, EventStream
from cynosure.evaluate.server_process import ServerProcess, serve
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native_linear import NativeLinear

#: Steps measured beyond those asked for: tokens come some at a time, and few arrivals would tell little.
MORE_STEPS = 64
#: Tokens that a stream may be ahead, by each other stream that begins after it.
APART = 64
LOOK_S = 0.05


def quantize_of(bits: str) -> str | None:
    """What `load` and `serve` call it."""
    return None if bits == "bf16" else bits


def weight_bytes(graph: Decoder) -> int:
    """What a step reads of the weights: every linear layer and the head, as packed."""
    structs = [module.packed.struct for module in graph.modules() if isinstance(module, NativeLinear)]
    return sum(struct.code_bytes + struct.scale_bytes for struct in structs)


class InProcess:
    """An engine that is stepped here."""

    def __init__(self, folder: Path, bits: str, settings: EngineSettings) -> None:
        graph = load(folder, quantize=quantize_of(bits)).graph
        assert isinstance(graph, Decoder)
        self.core = EngineCore(graph, (), settings, model_id="speed")
        self.graph = graph
        #: Tokens that came, and how much of the last one's prompt was known.
        self.num_told = self.num_cached = 0

    def hear(self, event: Event) -> None:
        """Count what is told."""
        if isinstance(event, TokenEvent):
            self.num_told += 1
            self.num_cached = event.cached_tokens

    def add(self, name: str, prompt: tuple[int, ...], num_tokens: int) -> None:
        """Begin a request."""
        params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        self.core.add(Request(name, prompt, params), self.hear)

    def random_prompt(self, length: int) -> tuple[int, ...]:
        """Nobody's."""
        return tuple(torch.randint(1, self.graph.spec.vocab_size, (length,)).tolist())

    def step(self) -> None:
        """One step."""
        self.core.step(time.monotonic())

    def run(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Read prompts, and decode."""
        prompts = [self.random_prompt(length) for _ in range(num_seqs)]
        self.num_told, begun = 0, time.perf_counter()
        for seq, prompt in enumerate(prompts):
            self.add(str(seq), prompt, length + num_steps + 100)
        while self.num_told < num_seqs:
            self.step()
        prefill = num_seqs * length / (time.perf_counter() - begun)
        for _ in range(WARM_STEPS):
            self.step()
        # A step may decode some tokens ahead: tokens count, not steps.
        before, begun = self.num_told, time.perf_counter()
        while self.num_told - before < num_seqs * num_steps:
            self.step()
        decode = (self.num_told - before) / (time.perf_counter() - begun)
        for seq in range(num_seqs):
            self.core.cancel(str(seq))
        return prefill, decode


class ThroughServer:
    """A server, and as many clients as there are sequences."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.dice = random.Random(0)

    def run(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Have all clients ask at once; what counts is the time in which all of them are answered."""
        wanted = WARM_STEPS + num_steps + MORE_STEPS
        begun, streams = asyncio.run(self._ask_all(num_seqs, wanted, length))
        start = max(stamps[WARM_STEPS] for stamps in streams)
        stop = min(stamps[-1] for stamps in streams)
        assert stop > start, "the first stream ended before the last began"
        prefill = num_seqs * length / (max(stamps[0] for stamps in streams) - begun)
        return prefill, sum(_rate(stamps, start, stop) for stamps in streams)

    async def _ask_all(self, num_seqs: int, wanted: int, length: int) -> tuple[float, list[list[float]]]:
        """Ask, and leave once each stream has so many tokens; return the start, and when tokens came."""
        prompts = ["".join(self.dice.choices(string.ascii_letters, k=length)) for _ in range(num_seqs)]
        streams: list[list[float]] = [[] for _ in prompts]
        room = wanted + APART * (num_seqs - 1)
        begun = time.perf_counter()
        asked = [
            asyncio.create_task(self._ask(prompt, room, stamps))
            for prompt, stamps in zip(prompts, streams, strict=True)
        ]
        waited = asyncio.create_task(_until(lambda: min(map(len, streams)) >= wanted))
        try:
            ended, _ = await asyncio.wait([waited, *asked], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in (waited, *asked):
                task.cancel()
            await asyncio.gather(waited, *asked, return_exceptions=True)
        return begun, streams

    async def _ask(self, prompt: str, num_tokens: int, stamps: list[float]) -> None:
        body = {
            "model": "speed", "prompt": prompt, "max_tokens": num_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "return_token_ids": True,
        }  # fmt: skip
        stream = await EventStream.open(f"{self.server.url}/v1/completions", body)
        if stream.status != 200:
            raise RuntimeError(f"the server answered {stream.status}: {(await stream.read())[:300]!r}")
        async with aclosing(stream.events()) as events:
            async for event in events:
                if event.data == DONE:
                    break
                # Several tokens may come at a time.
                for choice in event.json.get("choices", ()):
                    stamps += [event.at_s] * len(choice["token_ids"])
        assert len(stamps) == num_tokens, f"{len(stamps)} of {num_tokens} tokens came"


async def _until(is_done: Callable[[], bool]) -> None:
    """Look again and again, seldom enough to take nothing from who computes."""
    while not is_done():
        await asyncio.sleep(LOOK_S)


def _rate(stamps: list[float], start: float, stop: float) -> float:
    """Tokens a second of a stream, from its first event within the time to its last."""
    within = [at for at in stamps if start <= at <= stop]
    num_tokens = sum(at > within[0] for at in within)
    assert num_tokens, "a stream had one event while all ran"
    return num_tokens / (within[-1] - within[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("bits", choices=("bf16", "int8", "int4"))
    parser.add_argument("--through-server", action="store_true")
    arguments = parser.parse_args()
    if not arguments.through_server:
        settings = EngineSettings(
            max_num_batched_tokens=2048,
            chunk_size=2048,
            has_prefix_cache=False,
            max_tokens_ahead=MAX_TOKENS_AHEAD,
        )
        ours = InProcess(arguments.folder, arguments.bits, settings)
        shapes = ours.graph.cache_shapes
        kv_bytes = 2 * sum(shape.num_kv_heads * (shape.head_dim + shape.v_head_dim) for shape in shapes)
        answer("ours", ours.run, weight_bytes=weight_bytes(ours.graph), kv_bytes_per_token=kv_bytes)
        return
    # Whoever is ended ends the server, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    code = quantize_of(arguments.bits)
    options = [] if code is None else ["--quantization", code]
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve([f"speed={arguments.folder}", *options], Path(scratch)) as server,
    ):
        server.wait_until_ready()
        answer("server", ThroughServer(server).run)


if __name__ == "__main__":
    main()
