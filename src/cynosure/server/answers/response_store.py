"""Keep answers in memory, so that a request can go on from one. Writes no file, and knows no model.

Each tenant has a room of its own with two bounds; over either, what was used longest ago goes. Nothing is
kept when the server ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from cynosure.core.errors import NotFound
from cynosure.models.chat.prompt import Message
from cynosure.server.schemas.response_input import InputItem, turns_of
from cynosure.server.schemas.responses import ResponseBody

_ITEMS: TypeAdapter[list[InputItem]] = TypeAdapter(list[InputItem])


@dataclass(frozen=True)
class StoreLimits:
    """How much one tenant may have kept."""

    max_responses: int = 512
    max_bytes: int = 16 << 20


@dataclass(frozen=True, eq=False)
class Kept:
    """An answer and what was new in its request; `previous_response_id` leads to what stood before."""

    body: ResponseBody
    items: Sequence[InputItem]
    size: int

    @property
    def turns(self) -> list[Message]:
        """What was asked, and what was answered."""
        answered = _ITEMS.validate_python([item.model_dump() for item in self.body.output])
        asked = turns_of(self.items, f"{self.body.id}.input")
        return asked + turns_of(answered, f"{self.body.id}.output")


class ResponseStore:
    """What was answered, by tenant and id. For one thread: the event loop's."""

    def __init__(self, limits: StoreLimits | None = None) -> None:
        """Start empty."""
        self._limits = limits or StoreLimits()
        self._rooms: dict[str, OrderedDict[str, Kept]] = {}

    def put(self, tenant: str, body: ResponseBody, items: Sequence[InputItem]) -> None:
        """Keep an answer; one that is larger than everything that may be kept is not."""
        size = len(body.model_dump_json()) + len(_ITEMS.dump_json(list(items)))
        if size > self._limits.max_bytes:
            return
        room = self._rooms.setdefault(tenant, OrderedDict())
        room[body.id] = Kept(body, tuple(items), size)
        while len(room) > self._limits.max_responses or _size(room) > self._limits.max_bytes:
            room.popitem(last=False)

    def get(self, tenant: str, response_id: str) -> Kept:
        """An answer of this tenant.

        Raises:
            NotFound: there is none, or not any more.
        """
        room = self._rooms.get(tenant, OrderedDict())
        if response_id not in room:
            raise NotFound(
                f"no response {response_id[:100]!r} is kept: the last {self._limits.max_responses} of a key "
                "are, in memory, unless `store` is false. Send the whole conversation as input."
            )
        room.move_to_end(response_id)
        return room[response_id]

    def delete(self, tenant: str, response_id: str) -> None:
        """Forget an answer; those that go on from it can't be gone on from.

        Raises:
            NotFound: there is none.
        """
        self.get(tenant, response_id)
        del self._rooms[tenant][response_id]

    def turns_until(self, tenant: str, response_id: str | None) -> list[Message]:
        """The whole conversation up to an answer, the oldest turn first.

        Raises:
            NotFound: a part of it is not kept any more.
        """
        chain: list[Kept] = []
        while response_id is not None:
            chain.append(self.get(tenant, response_id))
            response_id = chain[-1].body.previous_response_id
        # Touched from the oldest on, so that a conversation does not lose its beginning first.
        for kept in reversed(chain):
            self.get(tenant, kept.body.id)
        return [turn for kept in reversed(chain) for turn in kept.turns]


def _size(room: OrderedDict[str, Kept]) -> int:
    return sum(kept.size for kept in room.values())
