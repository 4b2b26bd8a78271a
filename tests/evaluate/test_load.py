"""Loads come as they should, and windows count what they should: on made-up answers."""

from __future__ import annotations

import asyncio
import time

import pytest

from cynosure.evaluate.load import (
    Answer,
    Deadline,
    Window,
    closed_loop,
    figures,
    open_loop,
    poisson_arrivals,
)

WINDOW = Window(10.0, 20.0, 5.0)
DEADLINE = Deadline(ttft_s=1.0, tpot_s=0.1)


def answer(sent_s: float, ttft_s: float, tpot_s: float, num_tokens: int = 11) -> Answer:
    tokens = [sent_s + ttft_s + tpot_s * place for place in range(num_tokens)]
    return Answer(sent_s, tokens, is_whole=True)


def test_a_window_counts_what_was_sent_and_what_came_in_it() -> None:
    before = answer(8.0, 1.5, 0.1)  # sent too early; its tokens from 10.0 on count: at 10.0, 10.1 .. 10.5
    good = answer(12.0, 0.5, 0.05)
    late = answer(13.0, 1.5, 0.05)
    slow = answer(14.0, 0.5, 0.2)
    found = figures([before, good, late, slow], WINDOW, DEADLINE)
    assert found["num_requests"] == 3
    assert found["ttft_p50_s"] == pytest.approx(0.5)
    assert found["ttft_p99_s"] == pytest.approx(1.5)
    assert found["tokens_per_s"] == pytest.approx((33 + 6) / 10, abs=0.11)
    assert found["goodput"] == pytest.approx(0.1)
    assert found["num_unanswered"] == 0


def test_who_got_nothing_waited_to_the_end() -> None:
    found = figures([Answer(11.0)], WINDOW, DEADLINE)
    assert found["ttft_p50_s"] == pytest.approx(14.0)
    assert found["tpot_p50_s"] == found["tokens_per_s"] == found["goodput"] == 0
    assert found["num_unanswered"] == 1


def test_an_answer_that_was_cut_is_not_good() -> None:
    cut = Answer(12.0, [12.1, 12.2])
    assert figures([cut], WINDOW, DEADLINE)["goodput"] == 0


def test_nobody_asked() -> None:
    assert set(figures([], WINDOW, DEADLINE).values()) == {0.0}


def test_arrivals_are_the_same_for_a_seed_and_come_at_the_rate() -> None:
    moments = poisson_arrivals(50.0, 100.0, 140.0, seed=1)
    assert moments == poisson_arrivals(50.0, 100.0, 140.0, seed=1)
    assert moments != poisson_arrivals(50.0, 100.0, 140.0, seed=2)
    assert moments == sorted(moments)
    assert all(100.0 < moment < 140.0 for moment in moments)
    assert len(moments) == pytest.approx(2000, rel=0.1)


class Server:
    """Answers after a while; counts who waits at once."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.num_now = self.most = 0

    async def ask(self, answer: Answer) -> None:
        self.num_now += 1
        self.most = max(self.most, self.num_now)
        try:
            await asyncio.sleep(self.takes_s)
            answer.token_s.append(time.perf_counter())
            answer.is_whole = True
        finally:
            self.num_now -= 1


def test_a_closed_loop_keeps_so_many_asking_until_the_window_ends() -> None:
    async def load() -> tuple[Server, list[Answer]]:
        server, now = Server(0.02), time.perf_counter()
        return server, await closed_loop(server.ask, 3, Window(now, now + 0.2, 5.0))

    server, answers = asyncio.run(load())
    assert server.most == 3
    assert len(answers) >= 6
    assert all(answer.is_whole for answer in answers)


def test_an_open_loop_waits_for_nobody_and_leaves_who_is_not_answered() -> None:
    async def load() -> tuple[Server, list[Answer]]:
        server, now = Server(30.0), time.perf_counter()
        window = Window(now, now + 0.05, 0.1)
        return server, await open_loop(server.ask, [now, now + 0.01, now + 0.02], window)

    server, answers = asyncio.run(load())
    assert server.most == 3
    assert server.num_now == 0
    assert [answer.is_whole for answer in answers] == [False] * 3


def test_a_client_that_breaks_is_heard() -> None:
    async def broken(_: Answer) -> None:
        raise RuntimeError("status 500")

    async def load() -> None:
        now = time.perf_counter()
        await closed_loop(broken, 1, Window(now, now + 0.05, 1.0))

    with pytest.raises(RuntimeError, match="status 500"):
        asyncio.run(load())
