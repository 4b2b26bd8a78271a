"""Bound how much one key may ask: requests, tokens, requests at a time. Knows no key and no route."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cynosure.core.errors import InputTooLong, RateLimitExceeded

MINUTE_S = 60.0
#: When to come back where that can't be told: an answer under way ends when it ends.
_SOON_S = 1.0
#: Who waited as long as was said is not refused for a rounding error.
_ROUNDING_S = 1e-6

Clock = Callable[[], float]


@dataclass(frozen=True)
class Limits:
    """What a key may use; `None` is no limit. Written `rpm=60 tpm=10000 concurrency=4`."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None


class Bucket:
    """Units that are used and come back evenly, `capacity` of them in a minute and at most so many at once.

    Time is an argument, in seconds of any clock that does not run backwards.
    """

    def __init__(self, capacity: int, now: float) -> None:
        """Start full."""
        self.capacity = capacity
        self._level = float(capacity)
        self._at = now

    def level(self, now: float) -> float:
        """How many units there are; below 0 where more was taken than was there."""
        passed = max(0.0, now - self._at)
        return min(self.capacity, self._level + passed * self.capacity / MINUTE_S)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` units are there; more than `capacity` never are."""
        return max(0.0, amount - self.level(now)) * MINUTE_S / self.capacity

    def take(self, amount: float, now: float) -> None:
        """Use units, also such as are not there yet."""
        self._level = self.level(now) - amount
        self._at = max(self._at, now)


class Account:
    """What one key has used of its limits.

    A prompt is paid when it is taken. An answer's length is not known then: its tokens are paid as they come,
    if need be on credit, and the next request waits until that is paid back. For any thread.
    """

    def __init__(self, limits: Limits, clock: Clock = time.monotonic) -> None:
        """Start with nothing used."""
        self._clock = clock
        self._lock = threading.Lock()
        self._num_in_flight = 0
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.limits = Limits()
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Change the limits; where one is new, its bucket is full."""
        now = self._clock()
        with self._lock:
            if limits.rpm != self.limits.rpm:
                self._requests = None if limits.rpm is None else Bucket(limits.rpm, now)
            if limits.tpm != self.limits.tpm:
                self._tokens = None if limits.tpm is None else Bucket(limits.tpm, now)
            self.limits = limits

    def enter(self) -> None:
        """Begin a request; every one that begins must `leave`.

        Raises:
            RateLimitExceeded: a limit is reached. Nothing was begun.
        """
        now = self._clock()
        with self._lock:
            limit = self.limits.concurrency
            if limit is not None and self._num_in_flight >= limit:
                raise RateLimitExceeded(
                    f"this key has {self._num_in_flight} requests under way; the limit is {limit} at a time. "
                    "Wait for one to end.",
                    _SOON_S,
                )
            if self._requests is not None:
                self._refuse(self._requests, 1, now, "requests")
            if self._tokens is not None:
                self._refuse(self._tokens, 1, now, "tokens")
            if self._requests is not None:
                self._requests.take(1, now)
            self._num_in_flight += 1

    def leave(self) -> None:
        """End a request."""
        with self._lock:
            self._num_in_flight -= 1
            assert self._num_in_flight >= 0, "a request left twice"

    def check(self, num_tokens: int) -> None:
        """See whether a prompt of so many tokens may be taken now.

        Raises:
            InputTooLong: it never may: it is longer than a minute's tokens.
            RateLimitExceeded: not yet.
        """
        now = self._clock()
        with self._lock:
            if self._tokens is None:
                return
            if num_tokens > self._tokens.capacity:
                raise InputTooLong(
                    f"the prompt has {num_tokens} tokens; the limit of this key is {self._tokens.capacity} a "
                    "minute. Shorten it, or have tpm raised."
                )
            self._refuse(self._tokens, num_tokens, now, "tokens")

    def spend(self, num_tokens: int) -> None:
        """Pay for tokens that were taken or chosen."""
        with self._lock:
            if self._tokens is not None:
                self._tokens.take(num_tokens, self._clock())

    @staticmethod
    def _refuse(bucket: Bucket, amount: int, now: float, unit: str) -> None:
        wait_s = bucket.wait_s(amount, now)
        if wait_s > _ROUNDING_S:
            raise RateLimitExceeded(
                f"this key may use {bucket.capacity} {unit} a minute; this request needs at least {amount}, "
                f"and {bucket.level(now):.1f} are left. Retry in {wait_s:.1f} s.",
                wait_s,
            )
