"""Be an engine for one model whose computing is done in another process. Computes nothing.

Requests are checked here by the model's card, so that what is wrong with one shows at once.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from cynosure.core.errors import EngineDown
from cynosure.engine.constraints import Constraint
from cynosure.engine.pool.card import ModelCard
from cynosure.engine.pool.check_card import check_by_card
from cynosure.engine.request import Request
from cynosure.engine.wire.messages import Compile
from cynosure.observe.load import EngineLoad
from cynosure.server.remote.link import IDLE, Notify
from cynosure.server.remote.supervisor import Supervisor


class RemoteEngine:
    """What a completer needs of an engine."""

    def __init__(self, card: ModelCard, supervisor: Supervisor, adapter: str | None = None) -> None:
        """Stand for one model of the engine's process, or for one adapter of it."""
        self._card = card
        self._adapter = adapter
        self._supervisor = supervisor

    @property
    def load(self) -> EngineLoad:
        """How busy it was a moment ago; idle while there is no process."""
        try:
            return self._supervisor.link.load_of(self._card.name)
        except EngineDown:
            return IDLE

    def submit(self, request: Request, notify: Notify) -> None:
        """Check a request and send it; its events come on another thread.

        Raises:
            InputError: a token id or a parameter is not of this model.
            InputTooLong: prompt and answer would be longer than the model takes.
            EngineDown: there is no engine now; says when to come back.
        """
        if self._adapter is not None:
            request = replace(request, adapter=self._adapter)
        check_by_card(request, self._card)
        self._supervisor.link.submit(self._card.name, request, notify)

    def cancel(self, request_id: str) -> None:
        """Forget a request; where the process is gone, so is the request."""
        try:
            link = self._supervisor.link
        except EngineDown:
            return
        link.cancel(self._card.name, request_id)

    def grammar(self, constraint: Constraint, tenant: str = "") -> Future[Any]:
        """Have a constraint compiled over there; the future's result says nothing.

        Raises:
            EngineDown: there is no engine now.
        """
        name = self._card.name
        return self._supervisor.link.call(lambda number: Compile(number, name, constraint, tenant))

    def close(self) -> None:
        """Nothing: the process serves other models too, and its supervisor ends it."""
