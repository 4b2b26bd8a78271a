"""Keep the adapters of a process by name while anybody may ask for them. Knows nothing of files or graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from cynosure.core.errors import InputError, NotFound
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.adapters.limits import AdapterLimits


@dataclass(eq=False)
class _Held:
    """An adapter, how many requests use it, and who is told once none does and it was taken out."""

    model: str
    adapter: Adapter
    num_users: int = 0
    gone: Future[None] = field(default_factory=Future)


class AdapterBank:
    """Adapters of several models. For any thread.

    One that is taken out is found by nobody who comes; it goes once the requests under way with it are over.
    """

    def __init__(self, limits: AdapterLimits) -> None:
        """Hold none yet."""
        self.limits = limits
        # A future that ends may have its hearer ask again.
        self._lock = threading.RLock()
        self._held: dict[tuple[str, str], _Held] = {}
        self._leaving: list[_Held] = []

    @property
    def num_bytes(self) -> int:
        """What all of them take, those that are leaving included."""
        with self._lock:
            return self._num_bytes

    def names(self, model: str) -> tuple[str, ...]:
        """What the adapters of a model are called."""
        with self._lock:
            return tuple(name for of, name in self._held if of == model)

    def add(self, model: str, adapter: Adapter) -> None:
        """Hold an adapter; one of the same name is taken out.

        Raises:
            InputError: there are too many, or they would take too much; nothing is changed.
        """
        with self._lock:
            old = self._held.get((model, adapter.name))
            if old is not None and old.adapter.digest == adapter.digest:
                return
            if len(self._held) - (old is not None) >= self.limits.max_adapters:
                raise InputError(
                    f"{len(self._held)} adapters are loaded; the limit is {self.limits.max_adapters}. Unload "
                    "one, or raise --max-loras."
                )
            freed = old.adapter.num_bytes if old is not None and not old.num_users else 0
            num_bytes = self._num_bytes - freed + adapter.num_bytes
            if num_bytes > self.limits.max_bytes:
                raise InputError(
                    f"all adapters would take {num_bytes} bytes; the limit is {self.limits.max_bytes}. "
                    "Unload one, or raise --lora-memory."
                )
            if old is not None:
                self._take_out(old)
            self._held[model, adapter.name] = _Held(model, adapter)

    def remove(self, model: str, name: str) -> Future[None]:
        """Take an adapter out; the future ends once no request uses it any more.

        Raises:
            NotFound: none is called so.
        """
        with self._lock:
            held = self._named(model, name)
            self._take_out(held)
            return held.gone

    def find(self, model: str, name: str) -> Adapter:
        """Return an adapter by its name, or by its identity as long as a request uses it.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            for held in (*self._held.values(), *self._leaving):
                if held.model == model and held.adapter.identity == name:
                    return held.adapter
            return self._named(model, name).adapter

    def borrow(self, model: str, name: str) -> tuple[Adapter, Callable[[], None]]:
        """Return an adapter for a request, and what is to be called once it has ended.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            held = self._named(model, name)
            held.num_users += 1

        def give_back() -> None:
            with self._lock:
                held.num_users -= 1
                if held in self._leaving and not held.num_users:
                    self._let_go(held)

        return held.adapter, give_back

    @property
    def _num_bytes(self) -> int:
        return sum(held.adapter.num_bytes for held in (*self._held.values(), *self._leaving))

    def _named(self, model: str, name: str) -> _Held:
        if (model, name) not in self._held:
            known = ", ".join(sorted(other for of, other in self._held if of == model)) or "none"
            raise NotFound(
                f"model {model!r} has no adapter {name[:100]!r}; here: {known}. Load it, or correct the name."
            )
        return self._held[model, name]

    def _take_out(self, held: _Held) -> None:
        del self._held[held.model, held.adapter.name]
        self._leaving.append(held)
        if not held.num_users:
            self._let_go(held)

    def _let_go(self, held: _Held) -> None:
        self._leaving.remove(held)
        held.gone.set_result(None)
