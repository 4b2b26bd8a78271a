"""Keep the tokens that were generated, so that a conversation can go on from them. Writes no file.

Each tenant has a room of its own with two bounds; over either, what was used longest ago goes. Nothing is
kept when the server ends.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cynosure.models.chat.earlier import Generated

#: Answers to one prompt: a client that asks again and again goes on from one of the last.
_MAX_WAYS = 8
#: Four bytes a token.
_CODE = "I"


@dataclass(frozen=True)
class GeneratedLimits:
    """How much one tenant may have kept: prompts that were answered, and tokens of answers."""

    max_prompts: int = 1024
    max_tokens: int = 1 << 18


@dataclass(frozen=True)
class Place:
    """A text that was answered: its length in code points, and what it is known by."""

    length: int
    key: bytes


@dataclass(eq=False)
class _Room:
    """A tenant's answers, by the text that stood before them."""

    answers: OrderedDict[bytes, list[array[int]]] = field(default_factory=OrderedDict)
    #: How long the texts are, by model: only these lengths can be found.
    lengths: dict[bytes, int] = field(default_factory=dict)
    num_tokens: int = 0


class GeneratedIds:
    """What was generated, by tenant, model and the text before it. Threads may share it."""

    def __init__(self, limits: GeneratedLimits | None = None) -> None:
        """Start empty."""
        self._limits = limits or GeneratedLimits()
        self._rooms: dict[str, _Room] = {}
        self._lock = threading.Lock()

    def of(self, tenant: str, model: str) -> TenantAnswers:
        """What one tenant was answered by one model, to read and to add to."""
        return TenantAnswers(self, tenant, model)

    def put(self, tenant: str, place: Place, token_ids: Sequence[int]) -> None:
        """Keep an answer; one that is longer than everything that may be kept is not."""
        if not token_ids or len(token_ids) > self._limits.max_tokens:
            return
        answer = array(_CODE, token_ids)
        with self._lock:
            room = self._rooms.setdefault(tenant, _Room())
            ways = room.answers.setdefault(place.key, [])
            room.lengths[place.key] = place.length
            room.answers.move_to_end(place.key)
            if answer in ways:
                return
            ways.append(answer)
            room.num_tokens += len(answer)
            if len(ways) > _MAX_WAYS:
                room.num_tokens -= len(ways.pop(0))
            while len(room.answers) > self._limits.max_prompts or room.num_tokens > self._limits.max_tokens:
                key, gone = room.answers.popitem(last=False)
                del room.lengths[key]
                room.num_tokens -= sum(map(len, gone))

    def behind(self, tenant: str, salt: str, text: str) -> list[Generated]:
        """All that this tenant was answered behind a beginning of a text."""
        with self._lock:
            room = self._rooms.get(tenant, _Room())
            lengths = sorted(set(room.lengths.values()))
        found: list[Generated] = []
        digest, position = _begun(salt), 0
        for length in lengths:
            if length > len(text):
                break
            digest.update(_spelled(text[position:length]))
            position = length
            with self._lock:
                key = digest.copy().digest()
                if key in room.answers:
                    room.answers.move_to_end(key)
                    found += [Generated(length, tuple(way)) for way in room.answers[key]]
        return found


@dataclass(frozen=True, eq=False)
class TenantAnswers:
    """What one tenant was answered by one model; other tenants' is out of reach."""

    store: GeneratedIds
    tenant: str
    model: str

    def behind(self, text: str) -> list[Generated]:
        """All that was written behind a beginning of this text, sorted by where it starts."""
        return self.store.behind(self.tenant, self.model, text)

    def place(self, text: str) -> Place:
        """Where an answer to this text is kept."""
        digest = _begun(self.model)
        digest.update(_spelled(text))
        return Place(len(text), digest.digest())

    def put(self, place: Place, token_ids: Sequence[int]) -> None:
        """Keep an answer."""
        self.store.put(self.tenant, place, token_ids)


def _begun(model: str) -> hashlib._Hash:
    """A digest of texts that one model reads."""
    name = model.encode()
    return hashlib.sha256(len(name).to_bytes(4, "big") + name)


def _spelled(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
