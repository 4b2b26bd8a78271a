"""Measure how fast steps go of late, for predictions. Knows nothing of clocks or requests."""

from __future__ import annotations

from cynosure.engine.schedule import Rates

_WEIGHT = 0.1
"""What the newest step counts against all before it."""


class Pace:
    """Running means of prefill speed, step time and length of answers."""

    def __init__(self) -> None:
        self._prefill_tokens_per_s: float | None = None
        self._step_s: float | None = None
        self._answer_tokens: float | None = None
        self._begun_s = 0.0
        self._ended_s: float | None = None

    @property
    def rates(self) -> Rates:
        """What the scheduler predicts from."""
        return Rates(self._prefill_tokens_per_s, self._step_s, self._answer_tokens or 1.0)

    def begin(self, now: float) -> None:
        """Begin a step. Where work was left at the end of the last one, what was waited since counts to it.

        So a model that takes turns with others is as slow here as it is to its callers.
        """
        self._begun_s = now if self._ended_s is None else self._ended_s
        self._ended_s = None

    def rest(self) -> None:
        """Note that there is no work: what passes until there is some counts to no step."""
        self._ended_s = None

    def end(
        self, now: float, num_prefilled: int, num_rounds: int = 1, *, was_work: bool, is_more: bool
    ) -> None:
        """End a step, and learn from it if it computed anything; `is_more` where the next follows at once.

        One that decoded ahead had `num_rounds`.
        """
        if was_work:
            self.note_step(num_prefilled, (now - self._begun_s) / num_rounds)
        self._ended_s = now if is_more else None

    def note_step(self, num_prefilled: int, seconds: float) -> None:
        """Learn from a step that ran; the prefill speed is what prompts add to a step of decodes."""
        if not num_prefilled:
            self._step_s = _mixed(self._step_s, seconds)
            return
        added_s = max(seconds - (self._step_s or 0.0), 0.1 * seconds)
        self._prefill_tokens_per_s = _mixed(self._prefill_tokens_per_s, num_prefilled / added_s)

    def note_answer(self, num_tokens: int) -> None:
        """Learn from an answer that ended by itself."""
        self._answer_tokens = _mixed(self._answer_tokens, float(num_tokens))


def _mixed(mean: float | None, new: float) -> float:
    return new if mean is None else mean + _WEIGHT * (new - mean)
