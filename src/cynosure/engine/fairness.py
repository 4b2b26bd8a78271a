"""Put sequences in the order in which they are served. Knows nothing of budgets or memory.

Tenants share by the tokens they were served, as in the virtual token counter of Sheng et al., "Fairness
in Serving Large Language Models" (2401.00588): who was served least goes next, and who comes back from
idleness starts level with those present, so that no one saves up a claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from cynosure.engine.schedule import SequenceView

Urgency = tuple[int, float, str]
"""Level of priority, time of arrival, id: smaller goes first; a total order."""


class TokenCounter:
    """Counts what each tenant was served; `arrive` and `depart` bracket every request.

    What is done for no tenant, None, is not counted.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._present: Counter[str] = Counter()
        self._level = 0.0

    def arrive(self, tenant: str | None) -> None:
        """Note one more request; a tenant that had none is lifted to the least served of those present."""
        if tenant is None:
            return
        if not self._present[tenant]:
            present = [self._served[other] for other in self._present]
            self._level = min(present, default=self._level)
            self._served[tenant] = max(self._served.get(tenant, 0.0), self._level)
        self._present[tenant] += 1

    def depart(self, tenant: str | None) -> None:
        """Note that a request ended, however it ended."""
        if tenant is None:
            return
        assert self._present[tenant] > 0, f"tenant {tenant!r} departs more often than it arrived"
        self._present[tenant] -= 1
        if not self._present[tenant]:
            del self._present[tenant]
            if not self._present:
                # The last to leave sets the level that the next one starts from.
                self._level = max(self._level, self._served[tenant])
        self._forget()

    def serve(self, tenant: str | None, num_tokens: int) -> None:
        """Charge what was computed for a tenant: a token of a prompt like one of an answer."""
        if tenant is None:
            return
        self._served[tenant] = self._served.get(tenant, self._level) + num_tokens

    def served(self, tenant: str | None) -> float:
        """What the tenant was served, on a scale that only compares."""
        return self._level if tenant is None else self._served.get(tenant, self._level)

    def _forget(self) -> None:
        # An absent tenant that is below the level would be lifted to it anyway.
        for tenant in [name for name in self._served if name not in self._present]:
            if self._served[tenant] <= self._level:
                del self._served[tenant]


def urgencies(views: Sequence[SequenceView], now: float, aging_s: float) -> dict[str, Urgency]:
    """The urgency of each sequence; waiting lifts a low priority, up to the best one present and not beyond.

    The bound keeps aging out of fairness: a tenant's long backlog does not pass another's fresh request.
    """
    best = min((view.priority for view in views), default=0)
    found = {}
    for view in views:
        levels = int(max(0.0, now - view.arrival_s) // aging_s)
        found[view.request_id] = (max(best, view.priority - levels), view.arrival_s, view.request_id)
    return found


def order_of_service(views: Iterable[SequenceView], urgency: dict[str, Urgency]) -> list[SequenceView]:
    """All of them, as they would be served if nothing changed meanwhile."""
    return sorted(views, key=lambda view: _rank(urgency[view.request_id], view.served_tokens))


class FairQueue:
    """Hands out sequences: best priority first, then the least served tenant, then who came first."""

    def __init__(self, views: Iterable[SequenceView], urgency: dict[str, Urgency]) -> None:
        self._urgency = urgency
        self._served: dict[str, float] = {}
        self._queues: dict[str, list[SequenceView]] = {}
        for view in sorted(views, key=lambda view: urgency[view.request_id], reverse=True):
            self._queues.setdefault(view.tenant, []).append(view)
            self._served[view.tenant] = max(self._served.get(view.tenant, 0.0), view.served_tokens)

    def pop(self) -> SequenceView | None:
        """The next in order, or None when all were handed out."""
        if not self._queues:
            return None
        tenant = min(self._queues, key=self._rank_of)
        queue = self._queues[tenant]
        view = queue.pop()
        if not queue:
            del self._queues[tenant]
        return view

    def charge(self, tenant: str, num_tokens: int) -> None:
        """Count what a tenant just got, so that the next `pop` knows it."""
        self._served[tenant] += num_tokens

    def keep_only(self, request_ids: Container[str]) -> None:
        """Forget all others."""
        left = {
            tenant: [view for view in queue if view.request_id in request_ids]
            for tenant, queue in self._queues.items()
        }
        self._queues = {tenant: queue for tenant, queue in left.items() if queue}

    def _rank_of(self, tenant: str) -> tuple[int, float, float, str]:
        head = self._queues[tenant][-1]
        return _rank(self._urgency[head.request_id], self._served[tenant])


def _rank(urgency: Urgency, served: float) -> tuple[int, float, float, str]:
    level, arrival_s, request_id = urgency
    return level, served, arrival_s, request_id
