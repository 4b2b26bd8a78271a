"""Keys for tests, and servers that ask for them. Holds no assertion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from tests.server.fakes import FakeCompleter, services, serving

ANNA = "anna-has-a-secret-0001"
BEN = "ben-has-a-secret-00002"
ADMIN = "the-operators-secret-3"
LINES = f"anna:{ANNA}\nben:{BEN}\noperator:{ADMIN} admin\n"


class FakeClock:
    """Time that passes when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def guarded(
    lines: str = LINES, completer: FakeCompleter | None = None, clock: Callable[[], float] | None = None
) -> Iterator[str]:
    """A real server over fakes that asks for the keys in `lines`."""
    ring = KeyRing(parse_keys(lines, "the test"))
    admission = Admission(ring, clock=clock) if clock else Admission(ring)
    with serving(lambda _: services(completer), admission=admission) as url:
        yield url
