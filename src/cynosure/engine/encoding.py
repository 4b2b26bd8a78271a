"""Batch the texts of many callers through one encoder. Knows nothing of what the rows mean, nor of HTTP.

Texts are read (tokenised) beside the thread that computes, then packed without padding, longest first, into
passes of bounded size; between two passes whoever waits at the turnstile gets its turn. What one request
breaks, it breaks for itself: a pass that raises is run again one request at a time.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import CynosureError, EngineBusy, EngineFault
from cynosure.engine.encoding_batch import share_out
from cynosure.engine.fairness import TokenCounter
from cynosure.engine.turnstile import Turnstile

T = TypeVar("T")
Text = TypeVar("Text", contravariant=True)
Tokens = TypeVar("Tokens", bound=Sized)

_NUM_READERS = 2
_READ_AT_ONCE = 256  # texts of a request, before it is asked whether the answer is still wanted
_log = logging.getLogger(__name__)


class Rows(NamedTuple):
    """A row of numbers a text, in order, and how many tokens each text had."""

    values: Float32[np.ndarray, "texts width"]
    token_counts: tuple[int, ...]


class TextModel(Protocol[Text, Tokens]):
    """An encoder, as its batches see it; `Tokens` are what it makes of a text, as long as that is for it."""

    def read(self, texts: Sequence[Text]) -> Sequence[Tokens]:
        """Read texts, or pairs; raises what is wrong with one of them. For any thread."""
        ...

    def run(self, encodings: Sequence[Tokens]) -> Float32[np.ndarray, "texts width"]:
        """Compute a row a text in one pass."""
        ...


@dataclass(eq=False)
class _Job:
    """One request: its texts longest first, and how far it is."""

    future: Future[Rows]
    tenant: str
    encodings: list[Sized]
    places: list[int]
    rows: list[Float32[np.ndarray, " width"] | None]
    num_done: int = 0
    num_served: int = 0

    @property
    def lengths(self) -> list[int]:
        """Of the texts that are left, in order."""
        return [len(self.encodings[place]) for place in self.places[self.num_done :]]


@dataclass(frozen=True, eq=False)
class _Aside:
    """Something to compute in a turn of its own."""

    work: Callable[[], Any]
    future: Future[Any]


@dataclass(frozen=True)
class EncodingLimits:
    """Tokens of a pass, those of a pass while others wait for it, and texts that may wait."""

    max_tokens: int = 8192
    max_shared_tokens: int = 1024
    max_waiting_texts: int = 100_000


class _Waiting:
    """Counts texts that wait, up to a limit. Futures hold it, and would hold the model in its place."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.count = 0

    def add(self, num_texts: int) -> None:
        with self._lock:
            if self.count + num_texts > self._limit:
                raise EngineBusy(
                    f"{self.count} texts wait and {num_texts} more came; the limit is {self._limit}. Send "
                    "fewer at once, or try again soon."
                )
            self.count += num_texts

    def remove(self, num_texts: int) -> None:
        with self._lock:
            self.count -= num_texts


@dataclass(eq=False)
class _Queue:
    """What waits for the thread. For one thread."""

    jobs: list[_Job] = field(default_factory=list)
    served: TokenCounter = field(default_factory=TokenCounter)

    def add(self, job: _Job) -> None:
        self.jobs.append(job)
        self.served.arrive(job.tenant)

    def remove(self, job: _Job) -> None:
        self.jobs.remove(job)
        self.served.depart(job.tenant)

    def in_order(self) -> list[_Job]:
        """The least served tenant's first, of these the least served request; then who came first."""
        return sorted(self.jobs, key=lambda job: (self.served.served(job.tenant), job.num_served))


class EncodingEngine(Generic[T]):
    """One encoder on a thread of its own; callers submit from any thread."""

    def __init__(
        self, model: TextModel[T, Any], turns: Turnstile, limits: EncodingLimits | None = None
    ) -> None:
        """Start the thread."""
        self._model = model
        self._turns = turns
        self._limits = limits or EncodingLimits()
        self._queue = _Queue()
        self._inbox: queue.SimpleQueue[_Job | _Aside | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="encoding-reader")
        self._lock = threading.Lock()
        self._waiting = _Waiting(self._limits.max_waiting_texts)
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="encoding", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Texts that were sent and not answered."""
        return self._waiting.count

    def submit(self, texts: Sequence[T], tenant: str = "") -> Future[Rows]:
        """Have texts computed. The future raises what is wrong with one of them, and may be cancelled.

        Raises:
            EngineBusy: the engine was closed, or too many texts wait.
        """
        future: Future[Rows] = Future()
        with self._lock:
            if self._is_closed:
                raise _closed()
            waiting, num_texts = self._waiting, len(texts)
            waiting.add(num_texts)
            future.add_done_callback(lambda _: waiting.remove(num_texts))
            self._readers.submit(self._read, list(texts), tenant, future)
        return future

    def aside(self, work: Callable[[], Any]) -> Future[Any]:
        """Have something else computed with the same model, in a turn of its own.

        Raises:
            EngineBusy: the engine was closed.
        """
        with self._lock:
            if self._is_closed:
                raise _closed()
            future: Future[Any] = Future()
            self._inbox.put(_Aside(work, future))
            return future

    def close(self) -> None:
        """Fail what waits, and stop the thread."""
        with self._lock:
            self._is_closed = True
        self._readers.shutdown(wait=True)
        self._inbox.put(None)
        self._thread.join()

    def _read(self, texts: list[T], tenant: str, future: Future[Rows]) -> None:
        """Tokenise a request's texts; what is wrong with one of them is the request's end."""
        try:
            encodings: list[Sized] = []
            for first in range(0, len(texts), _READ_AT_ONCE):
                if self._is_closed or future.cancelled():
                    raise _closed()
                encodings += self._model.read(texts[first : first + _READ_AT_ONCE])
        except Exception as error:
            _fail(future, error)
            return
        places = sorted(range(len(encodings)), key=lambda place: -len(encodings[place]))
        self._inbox.put(_Job(future, tenant, encodings, places, [None] * len(encodings)))

    def _loop(self) -> None:
        while self._take_mail():
            if not self._queue.jobs:
                continue
            try:
                self._run_pass()
            except Exception as error:
                # A fault of ours, not of one request: none of those under way can be trusted any more.
                _log.exception("a pass of an encoder broke")
                self._fail_all(EngineFault(f"a pass of the encoder broke: {error}. Send the texts again."))
        self._fail_all(_closed())

    def _take_mail(self) -> bool:
        """Queue all mail, waiting for some where there is nothing else to do; `False` to stop."""
        while True:
            try:
                mail = self._inbox.get(block=not self._queue.jobs)
            except queue.Empty:
                return True
            if mail is None:
                return False
            if isinstance(mail, _Aside):
                self._run_aside(mail)
            else:
                self._queue.add(mail)
                self._finish_if_done(mail)

    def _run_aside(self, mail: _Aside) -> None:
        if not mail.future.set_running_or_notify_cancel():
            return
        try:
            with self._turns.batch():
                mail.future.set_result(mail.work())
        except Exception as error:
            mail.future.set_exception(_as_fault(error))

    def _run_pass(self) -> None:
        for job in [job for job in self._queue.jobs if job.future.cancelled()]:
            self._queue.remove(job)
        jobs = self._queue.in_order()
        if not jobs:
            return
        limits = self._limits
        budget = limits.max_shared_tokens if self._turns.is_shared else limits.max_tokens
        counts = share_out([job.lengths for job in jobs], min(budget, limits.max_tokens))
        taken = [
            (job, job.places[job.num_done : job.num_done + count])
            for job, count in zip(jobs, counts, strict=True)
            if count
        ]
        self._compute(taken)

    def _compute(self, taken: Sequence[tuple[_Job, list[int]]]) -> None:
        """Run texts in one pass; where it raises, each request's alone."""
        encodings = [job.encodings[place] for job, places in taken for place in places]
        try:
            with self._turns.batch():
                rows = self._model.run(encodings)
        except Exception as error:
            if len(taken) > 1:
                for one in taken:
                    self._compute([one])
            else:
                self._drop(taken[0][0], error)
            return
        first = 0
        for job, places in taken:
            self._accept(job, places, rows[first : first + len(places)])
            first += len(places)

    def _accept(self, job: _Job, places: list[int], rows: Float32[np.ndarray, "taken width"]) -> None:
        if not np.isfinite(rows).all():
            self._drop(job, EngineFault("the model gave numbers that are not finite. Check its weights."))
            return
        num_tokens = sum(len(job.encodings[place]) for place in places)
        self._queue.served.serve(job.tenant, num_tokens)
        job.num_served += num_tokens
        job.num_done += len(places)
        for place, row in zip(places, rows, strict=True):
            job.rows[place] = row
        self._finish_if_done(job)

    def _finish_if_done(self, job: _Job) -> None:
        if job.num_done < len(job.places):
            return
        self._queue.remove(job)
        rows = [row for row in job.rows if row is not None]
        values = np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
        counts = tuple(len(encoding) for encoding in job.encodings)
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(Rows(values, counts))

    def _drop(self, job: _Job, error: Exception) -> None:
        self._queue.remove(job)
        _fail(job.future, error)

    def _fail_all(self, error: CynosureError) -> None:
        for job in list(self._queue.jobs):
            self._drop(job, error)
        while not self._inbox.empty():
            mail = self._inbox.get()
            if mail is not None:
                _fail(mail.future, error)


def _fail(future: Future[Any], error: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(_as_fault(error))


def _as_fault(error: Exception) -> CynosureError:
    if isinstance(error, CynosureError):
        return error
    _log.error("an encoder failed on a request", exc_info=error)
    return EngineFault(f"the model failed on this request: {error}. Others go on.")


def _closed() -> EngineBusy:
    return EngineBusy("the model is being unloaded and takes no texts. Send them again.")
