"""Follow one request through the server: who asks, and what it has cost so far. Decides nothing."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from starlette.types import Scope

from cynosure.observe.metrics import Finish
from cynosure.server.limits import Account

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(eq=False)
class Visit:
    """One request.

    - `request_id`: the client's own where it is well formed, so that it may come twice; else a new one.
    - `arrived_s`: on the server's monotonic clock.
    - `tenant`: who is served; `None` until the request is admitted, and nothing may be computed before.
    - `account`: the limits of its key; `None` without a key.
    - `is_gone`: whether the client left before it had its answer.
    - `first_token_s`: when the first token was chosen, on the same clock.
    """

    request_id: str
    arrived_s: float
    tenant: str | None = None
    is_admin: bool = False
    account: Account | None = field(default=None, repr=False)
    is_gone: bool = False
    status: int | None = None
    model: str | None = None
    num_prompt_tokens: int = 0
    num_cached: int = 0
    num_tokens: int = 0
    first_token_s: float | None = None
    finish: Finish | None = None

    def admit(self, tenant: str, *, is_admin: bool, account: Account | None = None) -> None:
        """Note who asks."""
        assert self.tenant is None, "a request is admitted once"
        self.tenant, self.is_admin, self.account = tenant, is_admin, account


def request_id_of(given: str) -> str:
    """The id that a client gave, or a new one where it is none of at most 128 plain characters."""
    return given if _REQUEST_ID.fullmatch(given) else f"req-{uuid.uuid4().hex}"


def put_visit(scope: Scope, visit: Visit) -> None:
    """Keep the visit where every layer and route finds it."""
    scope.setdefault("state", {})["visit"] = visit


def visit_in(scope: Scope) -> Visit:
    """The visit of a request."""
    visit = scope["state"]["visit"]
    assert isinstance(visit, Visit)
    return visit
