"""Be an engine's process that computes nothing: its tokens come at a pace, from a script. Knows no model.

    python -m benchmarks.scripted_engine FD STEP_S

What is left is what it costs to tell of tokens, whatever chose them. It answers the server's calls over the
connection FD as the real process does (`cynosure.engine.worker`).
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import cycle
from typing import Any

from cynosure.engine import Cancelled, Finished, FinishReason, Request, TokenEvent, Usage
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.messages import CALLS, REPLIES, Call, Reply, Setup
from cynosure.engine.worker import Notify, serve
from cynosure.observe.load import EngineLoad

NAME, VOCAB_SIZE = "scripted", 512
MAX_MODEL_LEN = 1 << 20
#: Words of the toy vocabulary (`benchmarks/shapes.py`).
SCRIPT = range(260, 500)

CARD = ModelCard(
    NAME,
    ModelRole.DECODER,
    "none",
    "",
    "float32",
    VOCAB_SIZE,
    MAX_MODEL_LEN,
    (VOCAB_SIZE - 1,),
    is_loaded=True,
)


class Running:
    """One answer under way."""

    def __init__(self, request: Request, notify: Notify) -> None:
        self.request, self.notify = request, notify
        self.script = cycle(SCRIPT)
        self.num_tokens = 0

    @property
    def usage(self) -> Usage:
        """What it cost."""
        return Usage(len(self.request.token_ids), 0, self.num_tokens)

    def step(self) -> bool:
        """Tell one token; whether that was the last."""
        request_id = self.request.request_id
        self.num_tokens += 1
        self.notify(TokenEvent(request_id, next(self.script), None))
        is_last = self.num_tokens >= self.request.params.max_tokens
        if is_last:
            self.notify(Finished(request_id, FinishReason.LENGTH, self.usage))
        return is_last


class ScriptedPool:
    """One model, whose every step gives each request a token, so long after the one before."""

    step_age_s = load_age_s = 0.0

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._lock = threading.Condition()
        self._running: dict[str, Running] = {}
        threading.Thread(target=self._go_on, name="engine", daemon=True).start()

    def cards(self) -> dict[str, ModelCard]:
        """The one."""
        return {NAME: CARD}

    def snapshot(self, name: str) -> EngineLoad:
        """How many run."""
        return EngineLoad(num_running=len(self._running))

    def load(self, name: str) -> Future[Any]:
        """It is loaded."""
        done: Future[Any] = Future()
        done.set_result(None)
        return done

    def submit(self, name: str, request: Request, notify: Notify) -> None:
        """Take part in steps from the next one on."""
        with self._lock:
            self._running[request.request_id] = Running(request, notify)
            self._lock.notify()

    def cancel(self, name: str, request_id: str) -> None:
        """Take part no more."""
        with self._lock:
            one = self._running.pop(request_id, None)
        if one is not None:
            one.notify(Cancelled(request_id, one.usage))

    def grammar(self, name: str, constraint: object, tenant: str) -> Future[Any]:
        """No script has it."""
        raise NotImplementedError

    def embed(self, name: str, texts: Sequence[str], tenant: str) -> Future[Any]:
        """No script has it."""
        raise NotImplementedError

    def attended(self, name: str, text: str) -> Future[Any]:
        """No script has it."""
        raise NotImplementedError

    def score(self, name: str, readings: Sequence[tuple[str, ...]], tenant: str) -> Future[Any]:
        """No script has it."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""

    def _go_on(self) -> None:
        while True:
            with self._lock:
                while not self._running:
                    self._lock.wait()
            time.sleep(self._step_s)
            with self._lock:
                ended = [name for name, one in self._running.items() if one.step()]
                for name in ended:
                    del self._running[name]


def main() -> None:
    channel: Channel[Reply, Call] = Channel(socket.socket(fileno=int(sys.argv[1])), REPLIES, CALLS)
    calls = channel.messages()
    setup = next(calls)
    assert isinstance(setup, Setup)
    serve(channel, calls, setup, lambda models, settings: ScriptedPool(float(sys.argv[2])))
    channel.close()


if __name__ == "__main__":
    main()
