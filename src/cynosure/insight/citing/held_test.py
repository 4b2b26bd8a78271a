"""Tell, after each trial, whether successes are rarer than a claim says. Knows nothing of what is tried.

A test by betting (Waudby-Smith and Ramdas, 2010.09686; Grünwald, de Heide and Koolen, 1906.07801): whoever
doubts the claim that a trial succeeds with a chance of at least `floor` bets on failures, at the odds that
the claim makes fair. As long as the claim holds, whatever trials depend on, the stake grows tenfold with a
chance of one in ten at most, however long he plays (Ville). So it may be looked at after each trial.
"""

from __future__ import annotations

import math

#: Chances of success that are betted on, as shares of the floor.
_ALTERNATIVES = tuple((place + 0.5) / 20 for place in range(20))
#: A test that has seen a long good time would take as long to see a bad one. So fresh ones begin every so
#: many trials, and live for twice as long.
FRESH_EVERY = 50


class HeldTest:
    """One gambler, who spreads his stake over chances below the floor."""

    def __init__(self, floor: float) -> None:
        """Begin with a stake of 1."""
        chances = [floor * share for share in _ALTERNATIVES]
        self._gains = [(math.log(q / floor), math.log((1 - q) / (1 - floor))) for q in chances]
        self._logs = [0.0] * len(chances)

    def add(self, *, is_held: bool) -> None:
        """Count a trial."""
        self._logs = [
            log + gains[0 if is_held else 1] for log, gains in zip(self._logs, self._gains, strict=True)
        ]

    @property
    def log_stake(self) -> float:
        """The logarithm of what the stake has grown to: evidence against the claim."""
        highest = max(self._logs)
        return highest + math.log(sum(math.exp(log - highest) for log in self._logs) / len(self._logs))


class HeldAlarm:
    """Trips, for good, where successes are rarer than `floor`; falsely with a chance of `alpha` at most.

    Half of that chance is for a test that never ends, half is spread over fresh ones: `6 / (pi k)^2` for the
    k-th of them.
    """

    def __init__(self, floor: float, alpha: float) -> None:
        """Count from 0."""
        assert 0 < floor < 1, "a claim that can fail"
        assert 0 < alpha < 1, "a chance"
        self._floor, self._alpha = floor, alpha
        self._endless, self._fresh = HeldTest(floor), dict[int, HeldTest]()
        self.num_trials = 0
        self.tripped_at: int | None = None

    @property
    def is_tripped(self) -> bool:
        """Whether it has tripped."""
        return self.tripped_at is not None

    def add(self, *, is_held: bool) -> bool:
        """Count a trial; whether it is the one that trips."""
        if self.num_trials % FRESH_EVERY == 0:
            number = self.num_trials // FRESH_EVERY + 1
            self._fresh.pop(number - 2, None)
            self._fresh[number] = HeldTest(self._floor)
        self.num_trials += 1
        for test in (self._endless, *self._fresh.values()):
            test.add(is_held=is_held)
        if self.is_tripped or not self._is_refuted():
            return False
        self.tripped_at = self.num_trials
        return True

    def _is_refuted(self) -> bool:
        half = self._alpha / 2
        return self._endless.log_stake >= -math.log(half) or any(
            test.log_stake >= -math.log(half * 6 / (math.pi * number) ** 2)
            for number, test in self._fresh.items()
        )
