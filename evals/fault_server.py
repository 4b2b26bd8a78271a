"""Break requests to a server over HTTP, and its engine process with them. Knows nothing of what is inside."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynosure.evaluate.event_stream import DONE, EventStream, post
from cynosure.evaluate.server_process import ServerProcess, serve
from evals.fault_plan import (
    MIN_ANSWER,
    NUM_SEATS,
    WAIT_S,
    Fault,
    Kind,
    Outcome,
    Wave,
    answer_length,
    prompt_of,
)

KINDS = (Kind.STALLS, Kind.LEAVES)
MODEL = "faults"
ENGINE = "cynosure.engine.worker"
_IN_USE = re.compile(
    r"^cynosure_(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc){.*} (.*)$", re.M
)


class OverHttp:
    """A server in processes of its own, and waves of streams from it."""

    def __init__(self, server: ServerProcess, num_seats: int = NUM_SEATS) -> None:
        """Speak to a server that is ready."""
        self.server = server
        self.num_seats = num_seats

    async def wave(self, faults: Mapping[int, Fault]) -> Wave:
        """Run a stream at every seat to its end; who stalls hangs up once all others have ended."""
        is_over = asyncio.Event()
        tasks = {
            seat: asyncio.create_task(self.client(seat, faults.get(seat), is_over))
            for seat in range(self.num_seats)
        }
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(task for seat, task in tasks.items() if seat not in faults))
            # Whoever stalls holds no page once its answer is complete, though nobody reads it.
            await self.wait_until_idle()
            is_over.set()
            await asyncio.gather(*tasks.values())
        return {seat: task.result() for seat, task in tasks.items()}

    async def ask(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the answer to a small request."""
        body = {"model": MODEL, "prompt": "a", "max_tokens": 1}
        status, headers, _ = await post(f"{self.server.url}/v1/completions", body)
        return status, headers

    async def client(
        self, seat: int, fault: Fault | None, is_over: asyncio.Event, max_tokens: int | None = None
    ) -> Outcome:
        """One stream, as far as it comes."""
        is_stalling = fault is not None and fault.kind is Kind.STALLS
        body = {
            "model": MODEL, "prompt": list(prompt_of(seat)), "seed": seat,
            "max_tokens": max_tokens or answer_length(seat),
            "temperature": 1.0, "ignore_eos": True, "stream": True, "reproducible": True, "logprobs": 1,
        }  # fmt: skip
        if is_stalling:
            # More than the system holds for a client that does not read.
            body |= {"max_tokens": 20 * MIN_ANSWER, "logprobs": 5}
        outcome = Outcome()
        url = f"{self.server.url}/v1/completions"
        stream = await EventStream.open(url, body, receive_bytes=4096 if is_stalling else None)
        if stream.status != 200:
            outcome.end = f"status {stream.status}"
            stream.leave()
            return outcome
        async for event in stream.events():
            if event.data == DONE:
                outcome.end = "finished"
                break
            if "choices" not in event.json:
                outcome.end = "failed"
                break
            for choice in event.json["choices"]:
                outcome.deltas += told(choice)
            if fault is not None and len(outcome.deltas) > fault.at - len(prompt_of(seat)):
                outcome.end = "stalled" if is_stalling else "cancelled"
                if is_stalling:
                    await is_over.wait()
                stream.leave()
                return outcome
        return outcome

    async def wait_until_idle(self, seconds: float = 20.0) -> None:
        """Wait until no request runs and no page is in use; at most so long."""
        deadline = time.monotonic() + seconds
        while await asyncio.to_thread(self.is_in_use) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    def is_in_use(self) -> bool:
        """Whether the server says that a request runs or waits, or that a page is in use."""
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=10) as response:
            found = _IN_USE.findall(response.read().decode())
        assert found, "the server's metrics do not tell what is in use"
        return any(map(float, found))


def told(choice: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    """What a piece of an answer says, token by token: which leave together is a matter of the moment."""
    rows = choice["logprobs"]
    yield from zip(rows["tokens"], rows["token_logprobs"], rows["text_offset"], strict=True)
    if choice["finish_reason"] is not None:
        yield (choice["finish_reason"],)


@dataclass(frozen=True)
class Death:
    """What clients saw of an engine process that was killed: those with a stream, and those who came next.

    - `num_cut`, `num_hung`: streams that ended without their last word, and those that did not end.
    - `status`, `retry_after_s`: of the first answer afterwards.
    - `back_s`: from the end of the process until a request is served again.
    """

    num_cut: int
    num_hung: int
    status: int
    retry_after_s: float
    back_s: float


async def kill_engine(http: OverHttp) -> Death:
    """Kill the engine process while every seat has a stream, and ask until there is another."""
    streams = [
        asyncio.create_task(http.client(seat, None, asyncio.Event(), 1000)) for seat in range(http.num_seats)
    ]
    while not await asyncio.to_thread(http.is_in_use):
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    engine = http.server.process_of(ENGINE)
    assert engine is not None, "there is no engine process to kill"
    os.kill(engine, signal.SIGKILL)
    begun = time.monotonic()
    first = await http.ask()
    done, hung = await asyncio.wait(streams, timeout=10.0)
    for stream in hung:
        stream.cancel()
    while (await http.ask())[0] != 200:
        assert time.monotonic() - begun < WAIT_S, "the server does not serve again"
        await asyncio.sleep(0.1)
    return Death(
        num_cut=sum(stream.result().end != "finished" for stream in done),
        num_hung=len(hung),
        status=first[0],
        retry_after_s=float(first[1].get("retry-after", 0)),
        back_s=time.monotonic() - begun,
    )


def serve_seats(folder: Path, scratch: Path) -> ServerProcess:
    """Start a server for the checkpoint, with room for every seat."""
    options = ["--dtype", "float32", "--threads", "1", "--kv-cache-memory-bytes", "16MiB"]
    return serve([f"{MODEL}={folder}", *options], scratch)
