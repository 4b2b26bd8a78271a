"""Say what calls of functions must keep to. Knows nothing of what an answer attended to."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError


@dataclass(frozen=True)
class FocusRule:
    """Which calls are handed out where a prompt holds text that nobody wrote who is trusted.

    - `minimum`: the least focus of the tokens that a call was written in, from 0 to 1.
    - `passes_unwatched`: whether calls pass of a model that can't be watched; else such requests are refused.
    """

    minimum: float
    passes_unwatched: bool = False

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            InputError: a minimum that is no share.
        """
        if not 0 <= self.minimum <= 1:
            raise InputError(f"the least focus of calls is {self.minimum}; it is from 0 to 1. Change it.")


def stricter(rule: FocusRule | None, minimum: float | None) -> FocusRule | None:
    """A server's rule and what a request asks for, which lets nothing pass that can't be watched."""
    if minimum is None:
        return rule
    return FocusRule(minimum if rule is None else max(minimum, rule.minimum))
