"""Keep the last requests of each tenant, so that they can be explained. Holds numbers and names, no text."""

from __future__ import annotations

from collections import OrderedDict

from cynosure.core.errors import NotFound
from cynosure.server.visit import Visit

#: Requests that are kept of one tenant, the latest.
MAX_KEPT = 512


class VisitStore:
    """Visits by tenant and request id, also such as are under way; of two with one id, the later."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        """Start empty; tenants are as many as keys, each with `max_kept` requests."""
        self._max_kept = max_kept
        self._tenants: dict[str, OrderedDict[str, Visit]] = {}

    def add(self, visit: Visit) -> None:
        """Keep a request that was admitted; the tenant's oldest gives way."""
        assert visit.tenant is not None, "nobody was admitted"
        kept = self._tenants.setdefault(visit.tenant, OrderedDict())
        kept[visit.request_id] = visit
        kept.move_to_end(visit.request_id)
        if len(kept) > self._max_kept:
            kept.popitem(last=False)

    def find(self, asker: Visit, request_id: str) -> Visit:
        """A request of who asks, or of anybody where an admin does.

        Raises:
            NotFound: there is none that he may see; whether another has one is not told.
        """
        assert asker.tenant is not None, "nobody was admitted"
        own = self._tenants.get(asker.tenant, {}).get(request_id)
        if own is not None:
            return own
        if asker.is_admin:
            found = [kept[request_id] for kept in self._tenants.values() if request_id in kept]
            if found:
                return max(found, key=lambda visit: visit.arrived_s)
        raise NotFound(
            f"no request {request_id[:128]!r} of yours is kept; the last {self._max_kept} are. Take the id "
            "from the X-Request-Id of an answer."
        )
