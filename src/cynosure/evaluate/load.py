"""Put a server under load, and say how it bore it. Knows nothing of who answers, or what is asked.

Two kinds of load: a fixed number of clients, each of which asks again as soon as it is answered, and requests
that come at a fixed rate whether or not others have been answered. What counts is a window: it begins once
things have settled, and what is under way at its end is let go on, so that slow answers count as well.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cynosure.evaluate.timing import percentile


@dataclass
class Answer:
    """One request: when it was sent, when its tokens came, and whether its answer was whole.

    All on one clock, in seconds.
    """

    sent_s: float
    token_s: list[float] = field(default_factory=list)
    is_whole: bool = False

    @property
    def ttft_s(self) -> float:
        """Time to the first token; infinite where none came."""
        return self.token_s[0] - self.sent_s if self.token_s else math.inf

    @property
    def tpot_s(self) -> float:
        """Time per output token after the first."""
        return (self.token_s[-1] - self.token_s[0]) / max(1, len(self.token_s) - 1)


@dataclass(frozen=True)
class Window:
    """The time that counts, on the clock of the answers; it takes `grace_s` more for answers to end."""

    start_s: float
    stop_s: float
    grace_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.stop_s - self.start_s

    def holds(self, at_s: float) -> bool:
        """Whether a moment is in it."""
        return self.start_s <= at_s < self.stop_s


@dataclass(frozen=True)
class Deadline:
    """What an answer must keep to be good."""

    ttft_s: float
    tpot_s: float

    def is_met(self, answer: Answer) -> bool:
        """Whether an answer kept it."""
        return answer.is_whole and answer.ttft_s <= self.ttft_s and answer.tpot_s <= self.tpot_s


Ask = Callable[[Answer], Awaitable[None]]
"""Sends one request and notes its tokens."""


async def closed_loop(ask: Ask, num_clients: int, window: Window) -> list[Answer]:
    """Have so many clients ask until the window ends; whoever is not answered after the grace is left."""
    answers: list[Answer] = []

    async def client() -> None:
        while time.perf_counter() < window.stop_s:
            answers.append(Answer(time.perf_counter()))
            await ask(answers[-1])

    await _finish([asyncio.create_task(client()) for _ in range(num_clients)], window)
    return answers


async def open_loop(ask: Ask, arrivals_s: Sequence[float], window: Window) -> list[Answer]:
    """Send a request at each of these moments; whoever is not answered after the grace is left."""
    answers: list[Answer] = []

    async def client(at_s: float) -> None:
        await asyncio.sleep(at_s - time.perf_counter())
        answers.append(Answer(time.perf_counter()))
        await ask(answers[-1])

    await _finish([asyncio.create_task(client(at_s)) for at_s in arrivals_s], window)
    return answers


async def _finish(tasks: Sequence[asyncio.Task[None]], window: Window) -> None:
    left_s = window.stop_s + window.grace_s - time.perf_counter()
    done, late = await asyncio.wait(tasks, timeout=max(0.0, left_s))
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()


def poisson_arrivals(rate: float, start_s: float, stop_s: float, seed: int) -> list[float]:
    """Moments of requests that come independently, `rate` a second on average; the same for a seed."""
    dice, moments, at_s = random.Random(seed), [], start_s
    while (at_s := at_s + dice.expovariate(rate)) < stop_s:
        moments.append(at_s)
    return moments


def figures(answers: Sequence[Answer], window: Window, deadline: Deadline) -> dict[str, float]:
    """What a window shows.

    - `ttft_p50_s`, `ttft_p99_s`: of the requests that were sent in it; who got no token waited to the end.
    - `tpot_p50_s`: of the answers that are whole.
    - `tokens_per_s`: tokens that came in it.
    - `goodput`: whole answers a second that met the deadline, of the requests that were sent in it.
    - `num_requests`, `num_unanswered`: sent in it, and those of them whose answer is not whole.
    """
    sent = [answer for answer in answers if window.holds(answer.sent_s)]
    whole = [answer for answer in answers if answer.is_whole]
    end_s = window.stop_s + window.grace_s
    ttft = [min(answer.ttft_s, end_s - answer.sent_s) for answer in sent or answers]
    num_tokens = sum(window.holds(at_s) for answer in answers for at_s in answer.token_s)
    return {
        "ttft_p50_s": _of(ttft, 50),
        "ttft_p99_s": _of(ttft, 99),
        "tpot_p50_s": _of([answer.tpot_s for answer in whole], 50),
        "tokens_per_s": num_tokens / window.length_s,
        "goodput": sum(map(deadline.is_met, sent)) / window.length_s,
        "num_requests": float(len(sent)),
        "num_unanswered": float(sum(not answer.is_whole for answer in sent)),
    }


def _of(values: Sequence[float], share: int) -> float:
    """Of no value there is none: 0, which no request takes."""
    return percentile(values, share) if values else 0.0
