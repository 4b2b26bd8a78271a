"""Follow one request through the server: who asks, and what it has cost so far. Decides nothing."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace

from fastapi.routing import APIRoute
from starlette.types import Scope

from cynosure.engine.report import RequestReport
from cynosure.engine.sampling import SamplingParams
from cynosure.observe.metrics import Finish
from cynosure.server.access.limits import Account
from cynosure.server.guard_notes import GuardNotes

#: What is noted as status where the client left before there was one (nginx's number).
CLIENT_LEFT = 499

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@dataclass(eq=False)
class Visit:
    """One request.

    - `request_id`: the client's own where it is well formed, so that it may come twice; else a new one.
    - `arrived_s`: on the server's monotonic clock.
    - `tenant`: who is served; `None` until the request is admitted, and nothing may be computed before.
    - `account`: the limits of its key; `None` without a key.
    - `is_gone`: whether the client left before it had its answer.
    - `ended_s`: when its answer was sent, or broken off.
    - `first_token_s`: when the first token was chosen, on the same clock.
    - `principal`: the name of the API key, which only the audit log may hold.
    - `end_user`: a digest of whom it names as asking, for the log and the audit alone.
    - `guard`: what was found in its texts; `reports`: how its sequences went through the engine.
    - `prepare_s`: how long its constraints took to be ready; `sampling`: numbers that it asked for,
      and `constraint` the kind of what its answer must look like.
    - `error`: the name of the class of what ended it.
    - `read`: what of an earlier request it was told that holds texts.
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
    ended_s: float | None = None
    finish: Finish | None = None
    principal: str = ""
    end_user: str = ""
    guard: GuardNotes = field(default_factory=GuardNotes)
    reports: list[RequestReport] = field(default_factory=list)
    prepare_s: float = 0.0
    sampling: SamplingParams | None = None
    constraint: str = ""
    error: str = ""
    read: str = ""

    def admit(
        self, tenant: str, *, is_admin: bool, account: Account | None = None, principal: str = ""
    ) -> None:
        """Note who asks."""
        assert self.tenant is None, "a request is admitted once"
        self.tenant, self.is_admin, self.account = tenant, is_admin, account
        self.principal = principal

    def note_sampling(self, sampling: SamplingParams) -> None:
        """Note the numbers of what was asked; what a caller wrote is not kept."""
        self.constraint = "" if sampling.constraint is None else sampling.constraint.kind.value
        self.sampling = replace(sampling, constraint=None, logit_bias=(), stop_token_ids=())


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


def route_of(scope: Scope) -> str:
    """The pattern that answered, or nothing; the address itself may hold anything."""
    route = scope.get("route")
    return route.path if isinstance(route, APIRoute) else ""


def method_of(scope: Scope) -> str:
    """The method, or nothing where it is none of HTTP's."""
    return scope["method"] if scope["method"] in _METHODS else ""
