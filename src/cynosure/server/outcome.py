"""Say how a request ended. Reads what was noted, and notes nothing."""

from __future__ import annotations

from cynosure.guard import Outcome
from cynosure.server.visit import Visit

_UNAVAILABLE = 503


def outcome_of(visit: Visit, status: int) -> Outcome:
    """How a request ended, from what was sent (0: nothing) and what was computed."""
    if visit.is_gone or visit.finish == "abort" or not status:
        return Outcome.CANCELLED
    if status >= 500 and status != _UNAVAILABLE:
        return Outcome.FAILED
    if status >= 400:
        return Outcome.REFUSED
    return Outcome.FAILED if visit.finish == "error" or visit.error else Outcome.FINISHED
