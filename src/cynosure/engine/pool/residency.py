"""Bring models into memory and take idle ones out again. Knows nothing of what they are asked.

A model is loaded when somebody first comes for it, on a thread of its own; whoever comes meanwhile waits for
the same load. Where memory is short, idle models go, those first that were used least recently; one that is
pinned, or has work, stays. A load that fails fails those who waited for it, and may be tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from cynosure.core.errors import CynosureError, EngineBusy, EngineFault, InputError, NotFound
from cynosure.engine.pool.budget import Need, cache_bytes, cache_shares, victims
from cynosure.engine.pool.card import ModelCard, ServedModel
from cynosure.engine.pool.entry import Caller, Entry, Stage
from cynosure.engine.pool.memory import give_back, memory_limit
from cynosure.engine.pool.read_card import Description, describe
from cynosure.engine.pool.resident import Resident
from cynosure.engine.pool.settings import DEFAULT_MEMORY_SHARE, PoolSettings
from cynosure.observe.load import EngineLoad

#: Told of each stage of a load: what, how much is done, of how much; zeros where nobody can tell.
Report = Callable[[str, int, int], None]

#: Reads a model's weights and makes it ready, with so many bytes for its cache.
Loader = Callable[[ServedModel, ModelCard, int], Resident]

_log = logging.getLogger(__name__)


class Residency:
    """Which models are in memory. For any thread."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        settings: PoolSettings,
        loader: Loader,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read what each model is, and share out the memory; no weights are read.

        Raises:
            CheckpointError: a folder can't be served; see the subclasses.
            InputError: two models have one name.
            ModelTooLarge: the memory can never hold one of them.
        """
        self.memory_bytes = settings.memory_bytes or int(memory_limit() * DEFAULT_MEMORY_SHARE)
        # Adapters stay while models come and go: what they may take is no model's.
        self.memory_bytes -= 0 if settings.adapters is None else settings.adapters.max_bytes
        self._settings = settings
        self._loader = loader
        self._report = report
        self._clock = clock
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False
        self._threads: set[threading.Thread] = set()
        self._entries = _entries_of(models, settings, self.memory_bytes)

    def entry(self, name: str) -> Entry:
        """One model by name.

        Raises:
            NotFound: there is none.
        """
        if name not in self._entries:
            known = ", ".join(sorted(self._entries)) or "none"
            raise NotFound(f"no model is called {name[:100]!r}; here: {known}. Correct the name.")
        return self._entries[name]

    def cards(self) -> dict[str, ModelCard]:
        """What each model is, and whether it is loaded."""
        with self._changed:
            return {name: entry.card for name, entry in self._entries.items()}

    @property
    def load_age_s(self) -> float:
        """For how long the weights have been read that are read the longest; 0 where none are."""
        since_s = [
            entry.loading_since_s for entry in self._entries.values() if entry.loading_since_s is not None
        ]
        return max(0.0, self._clock() - min(since_s)) if since_s else 0.0

    def load_of(self, name: str) -> EngineLoad:
        """How busy a model is; who waits for it to be loaded counts as waiting."""
        with self._changed:
            entry = self.entry(name)
            waiting = EngineLoad(num_waiting=len(entry.waiting))
            return waiting if entry.resident is None else entry.resident.load

    def arrive(self, entry: Entry, caller: Caller) -> None:
        """Have a caller use a model, now or once it is loaded; `depart` follows once, however that ends.

        Raises:
            EngineBusy: everything is shutting down.
            Exception: what `caller.use` raised where the model was there; then there is no `depart`.
        """
        with self._changed:
            if self._is_closed:
                raise _closed()
            # Counted first: what is kept ready is told, and departs, before `use` returns.
            entry.num_open += 1
            if entry.resident is None or entry.stage is not Stage.READY:
                entry.waiting.append(caller)
                if entry.stage is Stage.ABSENT:
                    self._start(entry)
                return
            try:
                caller.use(entry.resident)
            except BaseException:
                entry.num_open -= 1
                raise

    def depart(self, entry: Entry) -> None:
        """Note that a caller has what it came for; without any, the model is idle."""
        with self._changed:
            entry.num_open -= 1
            assert entry.num_open >= 0, f"more callers left {entry.served.name} than came"
            entry.last_used_s = self._clock()
            self._changed.notify_all()

    def call_back(self, entry: Entry, request_id: str) -> Caller | Resident | None:
        """Take back who still waits for the model, or return the model that it has gone to."""
        with self._changed:
            for caller in entry.waiting:
                if caller.request_id == request_id:
                    entry.waiting.remove(caller)
                    return caller
            return entry.resident

    def unload(self, name: str) -> None:
        """Free a model's memory, be it pinned; does nothing where it is not loaded.

        Raises:
            EngineBusy: it has work, or is being loaded.
        """
        with self._changed:
            entry = self.entry(name)
            if entry.stage is Stage.ABSENT:
                return
            if entry.stage is not Stage.READY or entry.num_open:
                raise EngineBusy(
                    f"model {name!r} has {entry.num_open} requests and can't be unloaded. Try again soon."
                )
            entry.stage = Stage.CLOSING
        self._free(entry)

    def close(self) -> None:
        """Fail who waits, end what is under way, and free everything."""
        with self._changed:
            self._is_closed = True
            callers = [caller for entry in self._entries.values() for caller in entry.take_waiting()]
            threads = list(self._threads)
            self._changed.notify_all()
        for caller in callers:
            caller.fail(_closed())
        for thread in threads:
            thread.join()
        for entry in self._entries.values():
            if entry.stage is Stage.READY:
                self._free(entry)

    def _start(self, entry: Entry) -> None:
        entry.stage = Stage.LOADING
        thread = threading.Thread(target=self._load, args=(entry,), name=f"load-{entry.served.name}")
        self._threads.add(thread)
        thread.start()

    def _load(self, entry: Entry) -> None:
        """Load a model on this thread, and serve who waits."""
        try:
            self._make_room(entry)
            self._report(f"Loading {entry.served.name}", 0, 0)
            entry.loading_since_s = self._clock()
            try:
                resident = self._loader(entry.served, entry.described, entry.cache_bytes)
            finally:
                entry.loading_since_s = None
        except Exception as error:
            self._settle_failure(entry, _as_load_error(entry.served.name, error))
        else:
            self._settle(entry, resident)
        with self._changed:
            self._threads.discard(threading.current_thread())

    def _make_room(self, entry: Entry) -> None:
        """Reserve a model's memory, once idle ones have made room for it."""
        give_up_s = self._clock() + self._settings.load_wait_s
        while True:
            with self._changed:
                if self._is_closed:
                    raise _closed()
                held = [other.held for other in self._entries.values() if other.held_bytes]
                names = victims(held, entry.needed_bytes, self.memory_bytes)
                if names == ():
                    entry.held_bytes = entry.needed_bytes
                    return
                if names is None and not self._changed.wait(max(0.0, give_up_s - self._clock())):
                    busy = ", ".join(sorted(one.name for one in held))
                    raise EngineBusy(
                        f"model {entry.served.name!r} needs {entry.needed_bytes >> 20} MiB of "
                        f"{self.memory_bytes >> 20}, and models with work or a pin hold them ({busy}). Try "
                        "again soon, or give the models more memory."
                    )
                going = [self._entries[name] for name in names or ()]
                for one in going:
                    one.stage = Stage.CLOSING
            for one in going:
                self._free(one)

    def _settle(self, entry: Entry, resident: Resident) -> None:
        """Make a loaded model ready, and let in who waits, in order."""
        failed: list[tuple[Caller, CynosureError]] = []
        with self._changed:
            entry.resident = resident
            entry.held_bytes = max(entry.held_bytes, resident.num_bytes)
            entry.last_used_s = self._clock()
            entry.stage = Stage.READY
            for caller in entry.take_waiting():
                try:
                    caller.use(resident)
                except CynosureError as error:
                    failed.append((caller, error))
                except Exception as error:
                    _log.exception("a request broke on its way to a model")
                    fault = EngineFault(f"the request broke the engine: {error}. Change it.")
                    failed.append((caller, fault))
            self._changed.notify_all()
        for caller, error in failed:
            caller.fail(error)

    def _settle_failure(self, entry: Entry, error: CynosureError) -> None:
        with self._changed:
            entry.held_bytes = 0
            entry.stage = Stage.ABSENT
            callers = entry.take_waiting()
            self._changed.notify_all()
        for caller in callers:
            caller.fail(error)

    def _free(self, entry: Entry) -> None:
        """Give up the memory of a model that is closing; who came for it meanwhile has it loaded again."""
        resident, entry.resident = entry.resident, None
        assert resident is not None
        resident.close()
        del resident
        give_back()
        with self._changed:
            entry.held_bytes = 0
            entry.stage = Stage.ABSENT
            if entry.waiting and not self._is_closed:
                self._start(entry)
            self._changed.notify_all()


def _entries_of(models: Sequence[ServedModel], settings: PoolSettings, memory_bytes: int) -> dict[str, Entry]:
    names = [model.name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"two models are called {twice[0]!r}. Give one of them another name.")
    cards, needs = {}, []
    for model in models:
        found = describe(model, settings.engine.kv_cache_dtype)
        cards[model.name] = found.card
        needs.append(_need(model, found, settings))
    shares = cache_shares(needs, memory_bytes)
    entries = {}
    for model, need in zip(models, needs, strict=True):
        share = shares[model.name]
        entries[model.name] = Entry(model, cards[model.name], need.weight_bytes + share, share)
    return entries


def _need(model: ServedModel, found: Description, settings: PoolSettings) -> Need:
    engine = settings.engine
    least, most = cache_bytes(
        found.cache_bytes_per_token,
        engine.block_size,
        found.card.longest,
        settings.kv_cache_bytes,
        engine.kv_cache_bytes,
        found.cache_bytes_per_state,
    )
    images = 0 if found.card.image_token_id is None else engine.image_cache_bytes
    return Need(model.name, found.card.weight_bytes + images, least, most, model.is_pinned)


def _as_load_error(name: str, error: Exception) -> CynosureError:
    if isinstance(error, CynosureError):
        return error
    _log.error("a model could not be loaded", exc_info=error)
    return EngineFault(f"model {name!r} could not be loaded: {error}. Try again, or check its folder.")


def _closed() -> EngineBusy:
    return EngineBusy("the models are shutting down. Send the request again once they are up.")
