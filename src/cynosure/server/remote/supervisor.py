"""Keep one engine process running: start it, watch it, start it again. Knows nothing of what it computes.

What was under way in a process that ended fails with `EngineDown`, and so does whatever is asked until the
next one is up: the server says 503, and when to come back.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import Any

from cynosure.core.errors import CynosureError, EngineDown, EnvironmentFault
from cynosure.engine.pool.card import ModelCard
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.messages import CALLS, REPLIES, Call, LoadModel, Reply, Setup, Stop
from cynosure.observe import logs
from cynosure.server.remote.link import EngineLink

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Called with the stage of a start, again and again while it lasts; what it raises ends the start."""

#: How often who waits looks up.
_GLANCE_S = 0.1

#: How long torch's threads spin at a barrier before they sleep (libgomp), some 50 microseconds. By default it
#: is so long that a step collapses once a neighbour holds a core, and this server is one.
_SPIN_COUNT = "1000"


@dataclass(frozen=True)
class SupervisorSettings:
    """How patient a supervisor is, in seconds.

    - `silence_s`: a process that says nothing for so long hangs, and is ended.
    - `step_s`: so does one that lives, but whose models have been in one step for so long.
    - `load_s`: and so does one in which a model has been on its way into memory for so long.
    - `first_pause_s`, `max_pause_s`: before it is started again; each failure in a row doubles it.
    - `steady_s`: one that was up for so long did not fail in a row.
    - `stop_s`: what it may take to end when it is told to.
    """

    silence_s: float = 30.0
    step_s: float = 300.0
    load_s: float = 1800.0
    first_pause_s: float = 0.2
    max_pause_s: float = 30.0
    steady_s: float = 60.0
    stop_s: float = 5.0


class _Hang(Exception):
    """A process said nothing, or computed one step, for too long."""


class Supervisor:
    """The engine's process, whichever it is at the moment."""

    def __init__(
        self, setup: Setup, eager: Sequence[str] = (), settings: SupervisorSettings | None = None
    ) -> None:
        """Say what to serve, and which models are loaded before it counts as up; starts nothing."""
        self._setup = setup
        self._eager = tuple(eager)
        self._settings = settings or SupervisorSettings()
        self._closing = threading.Event()
        self._first: Future[dict[str, ModelCard]] = Future()
        self._link: EngineLink | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: dict[str, Callable[[int], Call]] = {}
        self._stage = "Starting the engine"
        self._start_s = 1.0
        self._expected_s = time.monotonic()
        self.num_restarts = 0
        # One thread for the process's whole life: the system ties the child to the thread that started it.
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    @property
    def is_up(self) -> bool:
        """Whether requests are taken."""
        return self._link is not None

    @property
    def pid(self) -> int | None:
        """The process at the moment; None between two."""
        return None if self._process is None else self._process.pid

    @property
    def stage(self) -> str:
        """What a start is at."""
        return self._stage

    @property
    def link(self) -> EngineLink:
        """The connection to a process that is up.

        Raises:
            EngineDown: there is none now.
        """
        link = self._link
        if link is None:
            raise self._down("the engine is starting again")
        return link

    def keep(self, name: str, call: Callable[[int], Call]) -> None:
        """Have every process begin with a call, before it counts as up; what fails later is logged."""
        self._kept = {**self._kept, name: call}

    def forget(self, name: str) -> None:
        """Have processes begin without a call that was kept."""
        self._kept = {other: call for other, call in self._kept.items() if other != name}

    def start(self, tell: Tell) -> dict[str, ModelCard]:
        """Start the process, and wait until it is up.

        Raises:
            CynosureError: why it can't serve what it should.
            Exception: what `tell` raised; the process is ended.
        """
        self._thread.start()
        try:
            while not wait_for([self._first], _GLANCE_S).done:
                tell(self._stage)
        except BaseException:
            self.close()
            raise
        return self._first.result()

    def close(self) -> None:
        """End the process, in time where it can; what is under way fails."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _supervise(self) -> None:
        pause = self._settings.first_pause_s
        while True:
            begun = time.monotonic()
            why = self._live()
            if self._closing.is_set() or not self._first.done() or self._first.exception() is not None:
                self._fail_first(why)
                return
            lasted = time.monotonic() - begun
            pause = self._settings.first_pause_s if lasted > self._settings.steady_s else pause
            self._stage = "Starting the engine again"
            self._expected_s = time.monotonic() + pause + self._start_s
            logs.write(_log, logging.ERROR, "the engine's process ended", {"why": why, "pause_s": pause})
            if self._closing.wait(pause):
                return
            pause = min(2 * pause, self._settings.max_pause_s)
            self.num_restarts += 1

    def _live(self) -> str:
        """One life of the process, from its start to its end; returns why it ended."""
        begun = time.monotonic()
        try:
            process, connection = _spawn()
        except OSError as error:
            return f"no process can be started ({error.strerror}). Free memory or process slots."
        self._process = process
        channel: Channel[Call, Reply] = Channel(connection, CALLS, REPLIES)
        link = EngineLink(channel)
        reasons: list[str] = []
        reader = threading.Thread(target=lambda: self._read(link, reasons), name="engine link", daemon=True)
        reader.start()
        try:
            link.send(self._setup)
            cards = self._bring_up(link)
            self._start_s = time.monotonic() - begun
            self._link = link
            if not self._first.done():
                self._first.set_result(cards)
            else:
                logs.write(
                    _log, logging.WARNING, "the engine is up again", {"after_s": round(self._start_s, 1)}
                )
            while reader.is_alive() and not self._closing.wait(_GLANCE_S):
                self._check_pulse(link)
        except EngineDown:
            # It ended by itself, or is to end: its exit status says more.
            pass
        except Exception as error:
            reasons.append(str(error))
            if not self._first.done() and not isinstance(error, _Hang):
                self._first.set_exception(error)
        self._link = None
        self._end(process, link, is_connected=reader.is_alive())
        reader.join()
        self._process = None
        return reasons[0] if reasons else _ending(process.returncode)

    def _read(self, link: EngineLink, reasons: list[str]) -> None:
        """Read to the end; whoever waits learns at once that there is no more."""
        why = link.read()
        if why:
            reasons.append(why)
        self._link = None
        self._expected_s = time.monotonic() + self._settings.first_pause_s + self._start_s
        link.end(self._down("the engine's process ended, and is started again"))

    def _bring_up(self, link: EngineLink) -> dict[str, ModelCard]:
        cards = self._awaited(link, link.cards)
        for name in self._eager:
            self._stage = f"Loading {name}"
            self._awaited(link, link.call(lambda number, name=name: LoadModel(number, name)))
        begun: set[str] = set()
        # More may come to be kept meanwhile.
        while waiting := {name: call for name, call in self._kept.items() if name not in begun}:
            for name, call in waiting.items():
                self._stage = f"Loading {name}"
                self._begin_with(link, name, call)
            begun |= waiting.keys()
        return cards

    def _begin_with(self, link: EngineLink, name: str, call: Callable[[int], Call]) -> None:
        """Make a call that is kept; one that fails only ends the first start."""
        try:
            self._awaited(link, link.call(call))
        except CynosureError as error:
            if isinstance(error, EngineDown) or not self._first.done():
                raise
            fields = {"name": name, "why": type(error).__name__}
            logs.write(_log, logging.ERROR, "an adapter could not be loaded again", fields)

    def _awaited(self, link: EngineLink, future: Future[Any]) -> Any:  # noqa: ANN401 - its answer
        while not wait_for([future], _GLANCE_S).done:
            if self._closing.is_set():
                raise EngineDown("the server is stopping. Send the request again once it is up.")
            self._check_pulse(link)
        return future.result()

    def _check_pulse(self, link: EngineLink) -> None:
        if time.monotonic() - link.last_heard_s > self._settings.silence_s:
            raise _Hang(f"it said nothing for {self._settings.silence_s:g} s, and was ended")
        if link.step_age_s > self._settings.step_s:
            raise _Hang(f"a step took more than {self._settings.step_s:g} s, and the process was ended")
        if link.load_age_s > self._settings.load_s:
            raise _Hang(
                f"a model took more than {self._settings.load_s:g} s to load, and the process was ended"
            )

    def _end(self, process: subprocess.Popen[bytes], link: EngineLink, *, is_connected: bool) -> None:
        """Have the process end; one that is up and told to stop, or ending already, gets a moment for it."""
        is_stopping = self._closing.is_set() and self._first.done()
        if is_stopping or not is_connected:
            try:
                if is_stopping and is_connected:
                    link.send(Stop())
                process.wait(self._settings.stop_s)
            except (EngineDown, subprocess.TimeoutExpired):
                _log.warning("the engine's process did not stop in time, and is ended")
        process.kill()
        process.wait()
        link.end(self._down("the server is stopping"))

    def _fail_first(self, why: str) -> None:
        if not self._first.done():
            self._first.set_exception(
                EnvironmentFault(f"the engine's process did not start: {why.rstrip('.')}. Its log says more.")
            )

    def _down(self, what: str) -> EngineDown:
        wait_s = max(1.0, self._expected_s - time.monotonic())
        return EngineDown(f"{what}. Send the request again in about {wait_s:.0f} s.", wait_s)


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process of ours, and the connection to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "cynosure.engine.worker", str(theirs.fileno()), str(os.getpid())]
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(os.environ),
                # A terminal's signals are for the server.
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """That of the process: ours, and how threads wait unless somebody has said so."""
    chosen = {} if "OMP_WAIT_POLICY" in given else {"GOMP_SPINCOUNT": _SPIN_COUNT}
    return chosen | dict(given)


def _ending(status: int) -> str:
    """Why a process ended, in words."""
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
