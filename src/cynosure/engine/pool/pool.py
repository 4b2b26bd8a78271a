"""Ask several models of several kinds in one process. Knows nothing of when they are loaded, or of HTTP."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cynosure.cache import PageStore
from cynosure.core.errors import CynosureError, EmptyInput, EngineBusy, InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.encoding import Rows
from cynosure.engine.grammar.matching import Compiled
from cynosure.engine.pool.adapters import PoolAdapters
from cynosure.engine.pool.card import ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.check_card import check_by_card
from cynosure.engine.pool.entry import Caller, Entry
from cynosure.engine.pool.residency import Report, Residency
from cynosure.engine.pool.resident import (
    EmbedderResident,
    GeneratorResident,
    Resident,
    ScorerResident,
    load_resident,
)
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.request import Cancelled, Event, Failed, PromptLogprobs, Request, TokenEvent, Usage
from cynosure.engine.turnstile import Turnstile
from cynosure.models.attended_tokens import AttendedTokens
from cynosure.models.cross_encoder import CrossEncoder
from cynosure.observe.load import EngineLoad

T = TypeVar("T")

Notify = Callable[[Event], None]


class ModelPool:
    """The models of one process, under one memory budget (`residency`). For any thread.

    Nothing here blocks on a model, save `unload` and `close`.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        settings: PoolSettings | None = None,
        report: Report | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what each model is; no weights are read.

        Raises:
            CheckpointError: a folder can't be served; see the subclasses.
            InputError: two models have one name.
            ModelTooLarge: the memory can never hold one of them.
            EnvironmentFault: the folder for sessions can't be used, or another process has it.
        """
        chosen = settings or PoolSettings()
        turns = self._turns = Turnstile()
        adapters = self._adapters = PoolAdapters(chosen.adapters)

        def loader(served: ServedModel, card: ModelCard, cache_bytes: int) -> Resident:
            found = adapters.finder(served.name)
            return load_resident(served, card, chosen, cache_bytes, turns, self._store, found)

        self._residency = Residency(models, chosen, loader, report or _say_nothing, clock)
        disk = chosen.disk
        self._store = None if disk is None else PageStore(disk.folder, disk.secret, disk.max_bytes)

    def cards(self) -> dict[str, ModelCard]:
        """What each model is, and whether it is loaded."""
        return self._residency.cards()

    def snapshot(self, name: str) -> EngineLoad:
        """How busy a model is; a moment old. What waits for it to be loaded counts as waiting."""
        return self._residency.load_of(name)

    @property
    def step_age_s(self) -> float:
        """For how long the step that runs now, of whichever model, has run; 0 where none does."""
        return self._turns.age_s

    @property
    def load_age_s(self) -> float:
        """For how long a model has been on its way into memory; 0 where none is."""
        return self._residency.load_age_s

    def load(self, name: str) -> Future[ModelCard]:
        """Have a model loaded; the future fails as a request for it would."""
        entry = self._residency.entry(name)
        done: Future[ModelCard] = Future()
        done.set_result(replace(entry.described, is_loaded=True))
        return self._relay(entry, lambda _: done, is_shared=True)

    def unload(self, name: str) -> None:
        """Free a model's memory, be it pinned; does nothing where it is not loaded.

        Raises:
            NotFound: no model has that name.
            EngineBusy: it has work, or is being loaded.
        """
        self._residency.unload(name)

    def close(self) -> None:
        """Fail what is under way, free everything, and put on disk what waits for it."""
        self._residency.close()
        self._adapters.close()
        if self._store is not None:
            self._store.close()

    def submit(self, name: str, request: Request, notify: Notify) -> None:
        """Check a request and have it answered; its events come on another thread, the last one terminal.

        `notify` must not block.

        Raises:
            NotFound: no model has that name, or the model no such adapter.
            InputError: the model does not generate, or the request is not of it.
            InputTooLong: prompt and answer would be longer than the model takes.
            EngineBusy: the pool was closed, too many constraints wait to be compiled, or the model of a
                background request is not loaded.
        """
        entry = self._generator(name)
        check_by_card(request, entry.described)
        if request.is_background and not self._residency.cards()[name].is_loaded:
            raise EngineBusy(f"{name} is not loaded, and nothing is loaded for the background. Ask it first.")
        request, give_back = self._adapters.lend(name, request)

        def heard(event: Event) -> None:
            try:
                notify(event)
            finally:
                if not isinstance(event, TokenEvent | PromptLogprobs):
                    self._residency.depart(entry)
                    give_back()

        def use(resident: Resident) -> None:
            assert isinstance(resident, GeneratorResident)
            resident.engine.submit(request, heard)

        def fail(error: CynosureError) -> None:
            heard(Failed(request.request_id, error))

        def withdraw() -> None:
            heard(Cancelled(request.request_id, Usage(len(request.token_ids), 0, 0)))

        try:
            self._residency.arrive(entry, Caller(use, fail, request.request_id, withdraw))
        except BaseException:
            give_back()
            raise

    def load_adapter(self, name: str, adapter: str, folder: Path) -> Future[None]:
        """Have an adapter of a model in memory, read from `folder`; its requests name it.

        The future raises `CheckpointError`, and `InputError` where a limit is passed.

        Raises:
            NotFound: no model has that name.
            InputError: the model takes no adapters.
        """
        entry = self._residency.entry(name)
        return self._adapters.load(entry.served, entry.described, adapter, folder)

    def unload_adapter(self, name: str, adapter: str) -> Future[None]:
        """Take an adapter out; the future ends once the requests under way with it have ended.

        Raises:
            NotFound: no model has that name, or the model no such adapter.
            InputError: the model takes no adapters.
        """
        entry = self._residency.entry(name)
        return self._adapters.unload(entry.served, entry.described, adapter)

    def cancel(self, name: str, request_id: str) -> None:
        """Forget a request; one that has ended already is none of our business."""
        found = self._residency.call_back(self._residency.entry(name), request_id)
        if isinstance(found, Caller):
            assert found.withdraw is not None
            found.withdraw()
        elif isinstance(found, GeneratorResident):
            found.engine.cancel(request_id)

    def grammar(self, name: str, constraint: Constraint, tenant: str = "") -> Future[Compiled]:
        """Have a constraint compiled for a model that generates.

        Raises:
            NotFound: no model has that name.
            InputError: the model does not generate.
        """

        def ask(resident: Resident) -> Future[Compiled]:
            assert isinstance(resident, GeneratorResident)
            return resident.engine.grammar(constraint, tenant)

        # Others may wait for the same grammar: whoever leaves does not take it along.
        return self._relay(self._generator(name), ask, is_shared=True)

    def embed(self, name: str, texts: Sequence[str], tenant: str = "") -> Future[Rows]:
        """Vectors of length 1, one a text, and how many tokens each text had.

        The future raises `EmptyInput` and `InputTooLong`, and may be cancelled.

        Raises:
            NotFound: no model has that name.
            InputError: the model does not embed.
            EmptyInput: there is no text.
        """
        entry = self._asked(name, (ModelRole.EMBEDDER,), "embed texts")
        _check_some(texts, "text")

        def ask(resident: Resident) -> Future[Rows]:
            assert isinstance(resident, EmbedderResident)
            return resident.engine.submit(texts, tenant)

        return self._relay(entry, ask)

    def attended(self, name: str, text: str, question: str | None = None) -> Future[AttendedTokens]:
        """Which tokens of a text an embedder attended to, or a ranker that reads it with a question.

        Errors are those of `embed`, or of `score`.
        """
        if question is not None:
            return self._attended_pair(name, question, text)
        entry = self._asked(name, (ModelRole.EMBEDDER,), "embed texts")

        def ask(resident: Resident) -> Future[AttendedTokens]:
            assert isinstance(resident, EmbedderResident)
            model = resident.model
            return resident.engine.aside(lambda: model.attended(text))

        return self._relay(entry, ask)

    def _attended_pair(self, name: str, question: str, text: str) -> Future[AttendedTokens]:
        entry = self._asked(name, (ModelRole.RANKER, ModelRole.CLASSIFIER), "score texts")

        def ask(resident: Resident) -> Future[AttendedTokens]:
            assert isinstance(resident, ScorerResident)
            model = resident.model
            if not isinstance(model, CrossEncoder):
                raise InputError(
                    f"{name!r} reads texts apart, and attends to none from another. Ask another model."
                )
            return resident.engine.aside(lambda: model.attended(question, text))

        return self._relay(entry, ask)

    def score(self, name: str, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Future[Rows]:
        """Logits of texts, or of pairs that are read together, and how many tokens each reading had.

        The future raises `EmptyInput` and `InputTooLong`, and may be cancelled.

        Raises:
            NotFound: no model has that name.
            InputError: the model does not score texts.
            EmptyInput: there is no reading.
        """
        entry = self._asked(name, (ModelRole.RANKER, ModelRole.CLASSIFIER), "score texts")
        _check_some(readings, "reading")

        def ask(resident: Resident) -> Future[Rows]:
            assert isinstance(resident, ScorerResident)
            return resident.engine.submit(readings, tenant)

        return self._relay(entry, ask)

    def _generator(self, name: str) -> Entry:
        return self._asked(name, (ModelRole.DECODER, ModelRole.SEQ2SEQ), "generate tokens")

    def _asked(self, name: str, roles: tuple[ModelRole, ...], what: str) -> Entry:
        entry = self._residency.entry(name)
        if entry.described.role not in roles:
            able = sorted(other for other, card in self.cards().items() if card.role in roles)
            raise InputError(
                f"model {name!r} is a {entry.described.role.value}; it does not {what}. These do: "
                f"{', '.join(able) or 'none here'}."
            )
        return entry

    def _relay(
        self, entry: Entry, ask: Callable[[Resident], Future[T]], *, is_shared: bool = False
    ) -> Future[T]:
        """The future of something that a model is asked once it is there."""
        told: Future[T] = Future()

        def use(resident: Resident) -> None:
            if told.cancelled():
                return
            try:
                asked = ask(resident)
            except CynosureError as error:
                _fail(told, error)
                return
            if not is_shared:
                # Weakly, since the two would hold each other, and with them what they came from.
                told.add_done_callback(_canceller(weakref.ref(asked)))
            asked.add_done_callback(lambda _: _copy(asked, told))

        self._residency.arrive(entry, Caller(use, lambda error: _fail(told, error)))
        told.add_done_callback(lambda _: self._residency.depart(entry))
        return told


def _canceller(asked: weakref.ref[Future[Any]]) -> Callable[[Future[Any]], None]:
    """What takes a question back when its caller goes; after its answer that does nothing."""

    def cancel(_: Future[Any]) -> None:
        future = asked()
        if future is not None:
            future.cancel()

    return cancel


def _copy(source: Future[Any], target: Future[Any]) -> None:
    """Let one future end as another did, unless its caller went away."""
    if not target.set_running_or_notify_cancel():
        return
    error = source.exception()
    if error is None:
        target.set_result(source.result())
    else:
        target.set_exception(error)


def _fail(future: Future[Any], error: CynosureError) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _check_some(items: Sequence[object], noun: str) -> None:
    if not items:
        raise EmptyInput(f"there is no {noun}; send at least one.")


def _say_nothing(stage: str, done: int, total: int) -> None:
    """Nobody listens."""
