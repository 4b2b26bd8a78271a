"""Admit a request by its key and its key's limits. Reads headers, never a body, and knows no route's inside.

Whatever is not listed here as open is guarded, also an address that nothing answers: a new route can't be
forgotten.
"""

from __future__ import annotations

import secrets
import time

from starlette.datastructures import Headers

from cynosure.core.errors import AdminOnly, InputError
from cynosure.server.access.keys import KeyRing, presented_key
from cynosure.server.access.limits import Account, Clock
from cynosure.server.access.tenants import NUM_SECRET_BYTES, end_user_of, tenant_of
from cynosure.server.settings import ServerSettings
from cynosure.server.visit import Visit

#: Addresses for everybody: they compute nothing, and tell nothing of anybody.
OPEN_PATHS = frozenset({"/", "/live"})
OPEN_FOLDER = "/static/"

#: Whom an open server serves: all are one.
ANYBODY = ""


class Admission:
    """Whom the server lets in."""

    def __init__(
        self, ring: KeyRing | None = None, secret: bytes | None = None, clock: Clock = time.monotonic
    ) -> None:
        """Ask for the keys of a ring; without one, or with an open one, for none.

        `secret` names tenants and end users; without one, their names last as long as this object.
        """
        self.ring = ring or KeyRing()
        self._secret = secret or secrets.token_bytes(NUM_SECRET_BYTES)
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def enter(self, visit: Visit, path: str, headers: Headers, *, is_work: bool) -> None:
        """Let a request in; one that was let in must `leave`.

        Raises:
            InvalidApiKey: it came without a key of ours.
            RateLimitExceeded: it is work, and its key has reached a limit.
        """
        if self.ring.is_open:
            visit.admit(ANYBODY, is_admin=True)
            return
        if is_open(path):
            visit.admit(ANYBODY, is_admin=False)
            return
        key = self.ring.find(presented_key(headers))
        account = self._accounts.get(key.name)
        if account is None:
            account = self._accounts[key.name] = Account(key.limits, self._clock)
        account.set_limits(key.limits)
        if is_work:
            account.enter()
        visit.admit(
            tenant_of(key.name, self._secret),
            is_admin=key.is_admin,
            account=account if is_work else None,
            principal=key.name,
        )

    def name_end_user(self, visit: Visit, name: str) -> None:
        """Note for whom a request asks, in a digest; nothing where nobody is named."""
        assert visit.tenant is not None, "nobody was admitted"
        visit.end_user = end_user_of(name, visit.tenant, self._secret) if name else ""

    @staticmethod
    def leave(visit: Visit) -> None:
        """Note that a request has ended; nothing happens for one that was not let in."""
        if visit.account is not None:
            visit.account.leave()


def is_open(path: str) -> bool:
    """Whether an address is for everybody."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def check_admin(visit: Visit) -> None:
    """Raise `AdminOnly` where the key is not the admin's."""
    if not visit.is_admin:
        raise AdminOnly(
            "this address is the operator's, and the API key is not an admin's. Use a key that has the word "
            "admin after it in the keys file."
        )


def check_exposure(settings: ServerSettings, ring: KeyRing, *, is_allowed: bool) -> None:
    """Refuse to serve a network that nobody asks for a key.

    Raises:
        InputError: others reach the address, there are no keys, and it was not allowed in so many words.
    """
    if ring.is_open and not settings.is_loopback and not is_allowed:
        raise InputError(
            f"--host {settings.host} can be reached from other machines, and there are no API keys. Name a "
            "file of keys (--api-keys FILE), set CYNOSURE_API_KEYS, listen on 127.0.0.1, or say --allow-open."
        )
