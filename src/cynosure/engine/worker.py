"""Hold the models in a process of their own, and answer the server's calls. Knows nothing of HTTP or text.

Started by the server as `python -m cynosure.engine.worker FD PARENT`, with one end of a socket pair. It ends
when the connection does, and when its parent is gone.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from cynosure.core.errors import CynosureError, EngineFault, WireFault
from cynosure.engine.constraints import Constraint
from cynosure.engine.pool.card import ModelCard, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.request import Event, Failed, Request
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.logs import SendLines
from cynosure.engine.wire.messages import (
    CALLS,
    REPLIES,
    Attend,
    Call,
    CallFailed,
    Cancel,
    Compile,
    Done,
    Embed,
    Hello,
    LoadAdapter,
    LoadModel,
    Pulse,
    Question,
    Reply,
    Rows,
    Setup,
    SetupFailed,
    Shares,
    Stop,
    Submit,
    UnloadAdapter,
)
from cynosure.engine.wire.outbox import Outbox
from cynosure.observe.load import EngineLoad

PULSE_S = 0.25

#: How long what is under way may take to end once the server has said so.
_STOP_S = 3.0

#: prctl's number for "signal me when my parent dies".
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)

Notify = Callable[[Event], None]


class Pool(Protocol):
    """What this process answers with: `engine.pool.pool.ModelPool`."""

    def cards(self) -> dict[str, ModelCard]:
        """What each model is."""
        ...

    def snapshot(self, name: str) -> EngineLoad:
        """How busy a model is."""
        ...

    @property
    def step_age_s(self) -> float:
        """For how long the step that runs now has run."""
        ...

    @property
    def load_age_s(self) -> float:
        """For how long a model has been on its way into memory."""
        ...

    def load(self, name: str) -> Future[Any]:
        """Have a model in memory."""
        ...

    def load_adapter(self, name: str, adapter: str, folder: Path) -> Future[Any]:
        """Have an adapter of a model in memory."""
        ...

    def unload_adapter(self, name: str, adapter: str) -> Future[Any]:
        """Take an adapter out."""
        ...

    def submit(self, name: str, request: Request, notify: Notify) -> None:
        """Begin a request."""
        ...

    def cancel(self, name: str, request_id: str) -> None:
        """Forget a request."""
        ...

    def grammar(self, name: str, constraint: Constraint, tenant: str) -> Future[Any]:
        """Have a constraint compiled."""
        ...

    def embed(self, name: str, texts: Sequence[str], tenant: str) -> Future[Any]:
        """Vectors and token counts."""
        ...

    def attended(self, name: str, text: str, question: str | None) -> Future[Any]:
        """Shares of attention by token."""
        ...

    def score(self, name: str, readings: Sequence[tuple[str, ...]], tenant: str) -> Future[Any]:
        """Logits and token counts."""
        ...

    def close(self) -> None:
        """Stop computing."""
        ...


OpenPool = Callable[[tuple[ServedModel, ...], PoolSettings], Pool]


class Worker:
    """Answers one connection with one pool."""

    def __init__(self, channel: Channel[Reply, Call], pool: Pool, stream_delay_s: float) -> None:
        """Say hello."""
        self._channel = channel
        self._pool = pool
        self._outbox = Outbox(channel.post, stream_delay_s)
        channel.post(Hello(tuple(pool.cards().values())))

    def answer(self, calls: Iterator[Call]) -> None:
        """Answer until the server says to stop, or is gone."""
        for call in calls:
            if isinstance(call, Stop):
                return
            if isinstance(call, Submit):
                self._submit(call)
            elif isinstance(call, Cancel):
                self._pool.cancel(call.model, call.request_id)
            elif isinstance(call, Setup):
                _log.error("a second setup came; the first one stands")
            else:
                self._ask(call)

    def pulse(self) -> Pulse:
        """How busy all models are, and how long a step has run or a model been loaded."""
        cards = self._pool.cards()
        loads = {name: self._pool.snapshot(name) for name, card in cards.items() if card.role.generates}
        loaded = tuple(name for name, card in cards.items() if card.is_loaded)
        return Pulse(loads, loaded, self._pool.step_age_s, self._pool.load_age_s)

    def close(self) -> None:
        """Tell what is held; the pool tells no more."""
        self._outbox.close()

    def _submit(self, call: Submit) -> None:
        def notify(event: Event) -> None:
            self._outbox.tell(call.model, event)

        try:
            self._pool.submit(call.model, call.request, notify)
        except Exception as error:
            notify(Failed(call.request.request_id, _as_ours(error)))

    def _ask(self, call: Question) -> None:
        call_id = call.call_id
        try:
            future, read = self._begun(call)
        except Exception as error:
            self._channel.post(CallFailed(call_id, _as_ours(error)))
            return

        def tell(done: Future[Any]) -> None:
            try:
                self._channel.post(Done(call_id, read(done.result())))
            except Exception as error:
                self._channel.post(CallFailed(call_id, _as_ours(error)))

        future.add_done_callback(tell)

    def _begun(self, call: Question) -> tuple[Future[Any], Callable[[Any], Rows | Shares | None]]:
        """The pool's future, and how its result is told."""
        pool = self._pool
        if isinstance(call, Compile):
            return pool.grammar(call.model, call.constraint, call.tenant), _nothing
        if isinstance(call, LoadModel):
            return pool.load(call.model), _nothing
        if isinstance(call, LoadAdapter):
            return pool.load_adapter(call.model, call.adapter, call.folder), _nothing
        if isinstance(call, UnloadAdapter):
            return pool.unload_adapter(call.model, call.adapter), _nothing
        if isinstance(call, Embed):
            return pool.embed(call.model, call.texts, call.tenant), _rows
        if isinstance(call, Attend):
            return pool.attended(call.model, call.text, call.question), _shares
        return pool.score(call.model, call.readings, call.tenant), _rows


def main(arguments: Sequence[str]) -> None:
    """Serve the connection whose descriptor is given, as the child of the process that is given."""
    connection = socket.socket(fileno=int(arguments[0]))
    _die_with_parent(int(arguments[1]))
    # Ctrl-C in a terminal is for the server, which stops us when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel: Channel[Reply, Call] = Channel(connection, REPLIES, CALLS)
    try:
        calls = channel.messages()
        setup = next(calls, None)
        if isinstance(setup, Setup):
            logging.captureWarnings(True)
            logging.basicConfig(handlers=[SendLines(channel.post, setup.logs_content)], level=setup.log_level)
            serve(channel, calls, setup, _open_pool)
    except WireFault:
        _log.exception("the server said what can't be understood")
    channel.close()
    # Past threads of native libraries, which may not end.
    os._exit(0)


def serve(channel: Channel[Reply, Call], calls: Iterator[Call], setup: Setup, open_pool: OpenPool) -> None:
    """Open the models that a setup names, and answer calls until they end."""
    heart = _Heart(channel)
    try:
        if setup.num_threads is not None:
            importlib.import_module("torch").set_num_threads(setup.num_threads)
        pool = open_pool(setup.models, setup.settings)
    except Exception as error:
        channel.post(SetupFailed(_as_ours(error)))
        return
    worker = Worker(channel, pool, setup.stream_delay_s)
    heart.watch(worker.pulse)
    try:
        worker.answer(calls)
    finally:
        stuck = threading.Timer(_STOP_S, os._exit, (1,))
        stuck.daemon = True
        stuck.start()
        heart.stop()
        pool.close()
        worker.close()
        stuck.cancel()


class _Heart:
    """Beats while this process can run Python; where the pool's locks are stuck, it stops too."""

    def __init__(self, channel: Channel[Reply, Call]) -> None:
        self._channel = channel
        self._read: Callable[[], Pulse] = lambda: Pulse({}, ())
        self._stopping = threading.Event()
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def watch(self, read: Callable[[], Pulse]) -> None:
        """Tell from now on what this reads."""
        self._read = read

    def stop(self) -> None:
        """Beat no more."""
        self._stopping.set()

    def _beat(self) -> None:
        while not self._stopping.wait(PULSE_S):
            self._channel.post(self._read())


def _open_pool(models: tuple[ServedModel, ...], settings: PoolSettings) -> Pool:
    # Late: it imports torch, and by then the heart beats.
    return importlib.import_module("cynosure.engine.pool.pool").ModelPool(models, settings)


def _die_with_parent(parent: int) -> None:
    """Have the system end this process with its parent, however that ends; elsewhere the connection does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _as_ours(error: Exception) -> CynosureError:
    if isinstance(error, CynosureError):
        return error
    _log.error("a call broke", exc_info=error)
    return EngineFault(f"the engine failed on this call: {type(error).__name__}. Its log says how.")


def _nothing(_: object) -> None:
    return None


def _rows(found: Any) -> Rows:  # noqa: ANN401 - the pool's pair
    values, token_counts = found
    return Rows(values, tuple(token_counts))


def _shares(found: Any) -> Shares:  # noqa: ANN401 - the encoder's shares
    return Shares(tuple(found.offsets), tuple(found.weights), found.sink_share)


if __name__ == "__main__":
    main(sys.argv[1:])
