"""Follow one model of a pool: whether it is loaded, who waits for it, who uses it. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from cynosure.core.errors import CynosureError
from cynosure.engine.pool.budget import Held
from cynosure.engine.pool.card import ModelCard, ServedModel
from cynosure.engine.pool.resident import Resident


class Stage(Enum):
    """Where a model is on its way into memory and out of it."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    CLOSING = "closing"


@dataclass(frozen=True, eq=False)
class Caller:
    """Who comes for a model: what to do once it is there, and whom to tell where it can't be.

    One with a `request_id` can be called back while it waits; `withdraw` then says so.
    """

    use: Callable[[Resident], None]
    fail: Callable[[CynosureError], None]
    request_id: str | None = None
    withdraw: Callable[[], None] | None = None


@dataclass(eq=False)
class Entry:
    """One model; whoever touches it holds the pool's lock.

    `held_bytes` count from the moment that room was made until the memory is free again. `num_open` counts
    requests that have not ended, those that wait for the model included. `loading_since_s` is when its
    weights began to be read, where they are being read.
    """

    served: ServedModel
    described: ModelCard
    needed_bytes: int
    cache_bytes: int
    stage: Stage = Stage.ABSENT
    resident: Resident | None = None
    held_bytes: int = 0
    num_open: int = 0
    last_used_s: float = 0.0
    loading_since_s: float | None = None
    waiting: list[Caller] = field(default_factory=list)

    @property
    def card(self) -> ModelCard:
        """What the model is now."""
        return replace(self.described, is_loaded=self.stage is Stage.READY)

    @property
    def held(self) -> Held:
        """What a decision about memory looks at."""
        is_idle = self.stage is Stage.READY and not self.num_open and not self.served.is_pinned
        return Held(self.served.name, self.held_bytes, is_idle, self.last_used_s)

    def take_waiting(self) -> list[Caller]:
        """Everyone who waits; from now on nobody does."""
        waiting, self.waiting = self.waiting, []
        return waiting
