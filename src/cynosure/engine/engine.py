"""Run an engine core on a thread of its own; callers submit and cancel from any thread. Computes nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from cynosure.core.errors import CynosureError, EngineBusy, EngineFault, InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.matching import Compiled, Matcher
from cynosure.engine.request import Cancelled, Event, Failed, Request, Usage
from cynosure.engine.snapshot import Snapshot
from cynosure.observe.load import EngineLoad

_log = logging.getLogger(__name__)

Notify = Callable[[Event], None]


@dataclass(frozen=True)
class _Add:
    request: Request
    notify: Notify
    grammar: Future[Compiled] | None = None


@dataclass(frozen=True)
class _Cancel:
    request_id: str


@dataclass(frozen=True)
class _Compiled:
    """The grammar of a request that was held for it is there, or has failed."""

    add: _Add


class Core(Protocol):
    """What computes, on the engine's thread alone, save for `snapshot`, `load` and `check`."""

    @property
    def snapshot(self) -> Snapshot:
        """How busy it is now."""
        ...

    @property
    def load(self) -> EngineLoad:
        """The same in an operator's terms."""
        ...

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        ...

    def check(self, request: Request) -> None:
        """Raise what is wrong with a request for this model; looks at no state."""
        ...

    def add(self, request: Request, notify: Notify, matcher: Matcher | None = None) -> None:
        """Take a checked request, with the matcher of its constraint."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request."""
        ...

    def fail_all(self, error: CynosureError) -> None:
        """End everything that is under way."""
        ...

    def step(self, now: float) -> None:
        """Advance by one step."""
        ...


class Engine:
    """Many requests on one model.

    `submit` checks a request at once; from then on its events come on the engine's thread, and end with
    exactly one that is terminal. `notify` must not block. Times of requests are `time.monotonic()`.
    Constraints are compiled beside the thread; a request waits for its own, and nobody else does.
    """

    def __init__(
        self,
        core: Core,
        grammars: GrammarCache | None = None,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Start the thread; without a cache of grammars, constraints are refused. A step runs in a `turn`."""
        self._core = core
        self._turn = turn
        self._grammars = grammars
        self._held: dict[str, _Add] = {}
        self._inbox: queue.SimpleQueue[_Add | _Cancel | _Compiled | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """How busy the engine is; a moment old."""
        return self._core.snapshot

    @property
    def load(self) -> EngineLoad:
        """The same in an operator's terms."""
        return self._core.load

    def submit(self, request: Request, notify: Notify) -> None:
        """Check a request and queue it; `arrival_s` is set here.

        Raises:
            InputError: a token id or a parameter is not of this model.
            InputTooLong: prompt and answer would be longer than the model takes.
            MissingPackage: what follows constraints is not installed.
            EngineBusy: the engine was closed, or too many constraints wait to be compiled.
        """
        if self._is_closed:
            raise EngineBusy("the engine is shutting down and takes no requests. Try again once it is up.")
        self._core.check(request)
        constraint = request.params.constraint
        grammar = None if constraint is None else self.grammar(constraint, request.tenant)
        self._inbox.put(_Add(replace(request, arrival_s=time.monotonic()), notify, grammar))

    def grammar(self, constraint: Constraint, tenant: str = "") -> Future[Compiled]:
        """Have a constraint compiled; raises, and fails, as `GrammarCache.request` does.

        Raises:
            InputError: this engine takes no constraints.
        """
        if self._grammars is None:
            raise InputError(
                "this model has no tokenizer, which a constraint needs. Leave the constraint out."
            )
        return self._grammars.request(constraint, tenant)

    def cancel(self, request_id: str) -> None:
        """Forget a request; its pages are free within one step."""
        self._inbox.put(_Cancel(request_id))

    def close(self) -> None:
        """End what is under way and stop the thread."""
        self._is_closed = True
        self._inbox.put(None)
        self._thread.join()
        if self._grammars is not None:
            self._grammars.close()

    def _loop(self) -> None:
        while self._take_mail():
            try:
                with self._turn():
                    self._core.step(time.monotonic())
            except Exception as error:
                # A fault of ours, not of one request: none of those under way can be trusted any more.
                _log.exception("a step of the engine broke")
                self._core.fail_all(
                    EngineFault(f"a step of the engine broke: {error}. Send the request again.")
                )
        closed = EngineFault("the engine is shutting down. Send the request again once it is up.")
        self._core.fail_all(closed)
        for request_id, held in self._held.items():
            held.notify(Failed(request_id, closed))

    def _take_mail(self) -> bool:
        """Hand all mail to the core, waiting for some where there is nothing else to do; `False` to stop."""
        while True:
            try:
                mail = self._inbox.get(block=not self._core.has_work)
            except queue.Empty:
                return True
            if mail is None:
                return False
            if isinstance(mail, _Add):
                self._add(mail)
            elif isinstance(mail, _Compiled):
                self._release(mail.add)
            else:
                self._cancel(mail.request_id)

    def _add(self, mail: _Add) -> None:
        if mail.grammar is None:
            self._core.add(mail.request, mail.notify)
            return
        request_id = mail.request.request_id
        if request_id in self._held:
            error = InputError(f"request id {request_id!r} is in use. Choose another.")
            mail.notify(Failed(request_id, error))
            return
        self._held[request_id] = mail
        # Called at once where it is done; it takes this thread's next turn either way.
        mail.grammar.add_done_callback(lambda _: self._inbox.put(_Compiled(mail)))

    def _release(self, mail: _Add) -> None:
        """Begin a request that was held, unless it was cancelled meanwhile."""
        if self._held.get(mail.request.request_id) is not mail or mail.grammar is None:
            return
        del self._held[mail.request.request_id]
        try:
            matcher = mail.grammar.result().matcher()
        except CynosureError as error:
            mail.notify(Failed(mail.request.request_id, error))
        except Exception as error:
            _log.exception("a constraint broke its compiler")
            fault = EngineFault(f"the constraint broke its compiler: {error}. Leave it out.")
            mail.notify(Failed(mail.request.request_id, fault))
        else:
            self._core.add(mail.request, mail.notify, matcher)

    def _cancel(self, request_id: str) -> None:
        held = self._held.pop(request_id, None)
        if held is None:
            self._core.cancel(request_id)
        else:
            held.notify(Cancelled(request_id, Usage(len(held.request.token_ids), 0, 0)))
