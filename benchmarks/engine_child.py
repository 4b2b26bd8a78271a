"""Answer measurements with our engine, in this process or behind its server. Knows nothing of peers.

    python -m benchmarks.engine_child FOLDER int8 [--through-server]

In process, a step is one of the engine, whole: scheduler, passes, greedy sampling, events; a short one
decodes up to three tokens ahead (`engine/run_ahead.py`), as it does in the server. Through the server, the
client is this process, and tokens count as their events arrive.
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

#: Tokens that streams may be apart when the first of them ends, so that all run while it is measured.
APART = 64


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
        begun, streams = asyncio.run(self._ask_all(num_seqs, num_steps + APART, length))
        start = max(stamps[min(WARM_STEPS, len(stamps) - 1)] for stamps in streams)
        stop = min(stamps[-1] for stamps in streams)
        num_tokens = sum(start < at <= stop for stamps in streams for at in stamps)
        assert stop > start, "the first stream ended before the last began"
        prefill = num_seqs * length / (max(stamps[0] for stamps in streams) - begun)
        return prefill, num_tokens / (stop - start)

    async def _ask_all(self, num_seqs: int, num_tokens: int, length: int) -> tuple[float, list[list[float]]]:
        prompts = ["".join(self.dice.choices(string.ascii_letters, k=length)) for _ in range(num_seqs)]
        begun = time.perf_counter()
        return begun, await asyncio.gather(*(self._ask(prompt, num_tokens) for prompt in prompts))

    async def _ask(self, prompt: str, num_tokens: int) -> list[float]:
        body = {
            "model": "speed", "prompt": prompt, "max_tokens": num_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True, "return_token_ids": True,
        }  # fmt: skip
        stream = await EventStream.open(f"{self.server.url}/v1/completions", body)
        if stream.status != 200:
            raise RuntimeError(f"the server answered {stream.status}: {(await stream.read())[:300]!r}")
        stamps: list[float] = []
        async for event in stream.events():
            if event.data == DONE:
                break
            # Several tokens may come at a time.
            for choice in event.json.get("choices", ()):
                stamps += [event.at_s] * len(choice["token_ids"])
        assert len(stamps) == num_tokens, f"{len(stamps)} of {num_tokens} tokens came"
        return stamps


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
