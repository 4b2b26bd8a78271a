"""Judge calls of functions by what they attended to, before anybody hears of them. Knows no protocol."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.insight import Reading, shares_by_part
from cynosure.insight.focus_rule import FocusRule
from cynosure.insight.judging.focus import Focus, FocusTally
from cynosure.server.answers.continuation import Placed
from cynosure.server.guard_notes import GuardNotes
from cynosure.server.schemas.stopped_call import StoppedCall

_DIGITS = 4


class CallGate:
    """Stands before the calls of one answer; the first that does not pass ends it."""

    def __init__(self, reading: Reading, rule: FocusRule, notes: GuardNotes) -> None:
        """Note what is stopped in `notes`, without what it says."""
        self._reading = reading
        self._rule = rule
        self._notes = notes
        self.stopped: StoppedCall | None = None

    def passes(self, placed: Sequence[Placed]) -> bool:
        """Judge a call by all tokens that it was written in."""
        assert self.stopped is None, "nothing follows what was stopped"
        tally = FocusTally(self._reading)
        is_watched = False
        for token in (one.token for one in placed):
            # White space may stand before a call in any number, and would thin out what is told of it.
            if token.attended is None or not token.text.strip():
                continue
            is_watched = True
            attended = token.attended
            shares = shares_by_part(
                self._reading.segments, attended.masses, attended.sink, attended.entropy_bits
            )
            tally.add(shares, attended.folds)
        focus = tally.focus
        if is_watched and (focus is None or focus.value >= self._rule.minimum):
            return True
        self._notes.num_stopped_calls += 1
        self.stopped = _unwatched(self._rule) if focus is None else _stopped(focus, self._rule)
        return False


def ungated() -> CallGate | None:
    """No gate: calls are handed out as they are."""
    return None


def _stopped(focus: Focus, rule: FocusRule) -> StoppedCall:
    message = (
        "a call of a function was stopped: the tokens that it was written in attended to "
        f"{focus.attended_to}, and their focus on trusted instructions is {focus.value:.2f}; the minimum is "
        f"{rule.minimum:g}. Look for instructions in {focus.attended_to}, or leave it out; where the call is "
        "wanted, lower the minimum."
    )
    return StoppedCall(
        focus=round(focus.value, _DIGITS),
        minimum=rule.minimum,
        is_fitted=focus.is_fitted,
        attended_to=focus.attended_to,
        share=round(focus.share, _DIGITS),
        message=message,
    )


def _unwatched(rule: FocusRule) -> StoppedCall:
    message = (
        "a call of a function was stopped: nothing is known of what its tokens attended to, and the focus on "
        f"trusted instructions must be {rule.minimum:g}. Ask again without what keeps it from being watched."
    )
    return StoppedCall(
        focus=None, minimum=rule.minimum, is_fitted=False, attended_to=None, share=None, message=message
    )
