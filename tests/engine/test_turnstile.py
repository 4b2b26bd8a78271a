"""Turns are fair: a step waits for one batch at most, and a batch for one step of each model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from cynosure.engine.turnstile import Turnstile


class Stage:
    """Threads that come to a turnstile one by one, in a known order, and leave when told."""

    def __init__(self) -> None:
        self.turns = Turnstile()
        self.order: list[str] = []
        self._leave: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def come(self, name: str) -> None:
        """Queue `name`, a step or a batch by its first letter, and return once it is in the queue."""
        turn = self.turns.step if name.startswith("s") else self.turns.batch
        leave, before = threading.Event(), self.num_known
        self._leave[name] = leave

        def run() -> None:
            with turn():
                self.order.append(name)
                assert leave.wait(10)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()
        self.until(lambda: self.num_known == before + 1)

    @property
    def num_known(self) -> int:
        """Who waits, is inside, or was."""
        return len(self.turns._queue) + len(self.order)

    def leave(self) -> None:
        """Let whoever is inside out, and the next in, if anybody waits."""
        num_waiting, done = len(self.turns._queue), len(self.order)
        self._leave[self.order[-1]].set()
        self.until(lambda: len(self.order) == done + bool(num_waiting))

    def finish(self) -> None:
        while self.turns._queue:
            self.leave()
        for event in self._leave.values():
            event.set()
        for thread in self._threads:
            thread.join(10)

    @staticmethod
    def until(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.001)


@pytest.mark.parametrize(
    ("came", "went"),
    [
        # First come, first served.
        (["s1", "b1", "s2"], ["s1", "b1", "s2"]),
        # A batch ran when the step came: no other batch is let in before it.
        (["b1", "b2", "s1"], ["b1", "s1", "b2"]),
        # The step came while a step ran, so it may wait for one batch, not for two.
        (["s1", "b1", "b2", "s2"], ["s1", "b1", "s2", "b2"]),
        (["s1", "b1", "b2", "b3", "s2", "s3"], ["s1", "b1", "s2", "s3", "b2", "b3"]),
    ],
)
def test_the_order(came: list[str], went: list[str]) -> None:
    stage = Stage()
    for name in came:
        stage.come(name)
    stage.finish()
    assert stage.order == went


def test_a_batch_gets_through_though_steps_never_end() -> None:
    stage = Stage()
    stage.come("s1")
    stage.come("b1")
    for number in range(2, 5):
        stage.come(f"s{number}")
        stage.leave()
    stage.finish()
    assert stage.order.index("b1") == 1


def test_a_step_waits_for_one_batch_at_most_whoever_comes() -> None:
    stage = Stage()
    stage.come("b0")
    for number in range(1, 8):
        stage.come(f"b{number}")
        stage.come(f"s{number}")
        stage.leave()
    stage.finish()
    assert len(stage.order) == 15
    # Counted in turns, from when each step came: batches between its coming and its going.
    for number in range(1, 8):
        went = stage.order.index(f"s{number}")
        since = stage.order[number:went]
        assert sum(name.startswith("b") for name in since) <= 1, stage.order


def test_one_at_a_time_and_errors_leave_it_open() -> None:
    turns, inside, most = Turnstile(), [], []

    def work(turn: Callable[[], object]) -> None:
        for _ in range(50):
            with turn():  # type: ignore[attr-defined]
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work, args=(turn,)) for turn in (turns.step, turns.batch) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 200
    assert max(most) == 1
    with pytest.raises(RuntimeError), turns.step():
        raise RuntimeError
    with turns.batch():
        pass


def test_it_is_shared_while_steps_come_and_a_little_longer() -> None:
    now = [100.0]
    turns = Turnstile(lambda: now[0])
    assert not turns.is_shared
    with turns.step():
        pass
    assert turns.is_shared
    now[0] += 5
    assert not turns.is_shared
    with turns.batch():
        pass
    assert not turns.is_shared


def test_the_age_is_of_whoever_is_inside_and_not_of_who_waits() -> None:
    now = [100.0]
    turns = Turnstile(lambda: now[0])
    assert turns.age_s == 0
    for turn in (turns.step, turns.batch):
        with turn():
            now[0] += 7
            assert turns.age_s == 7
        assert turns.age_s == 0
