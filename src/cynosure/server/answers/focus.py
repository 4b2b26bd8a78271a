"""Tell an answer's focus on trusted instructions, and say whose calls are judged by it. Judges none."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.core.errors import InputError
from cynosure.insight import PromptSegments, Reading, TokenShares
from cynosure.insight.focus_rule import FocusRule, stricter
from cynosure.insight.judging.focus import INJECTION, FocusTally, focus_model_of, is_divided
from cynosure.server.schemas.attention import Attention, AttentionParam
from cynosure.server.services import CompletionModel

_DIGITS = 4


class FocusTeller:
    """Tells of one answer."""

    def __init__(self, reading: Reading) -> None:
        """Start before the first token."""
        self._focus = FocusTally(reading)
        is_fitted = focus_model_of(reading.profile, INJECTION) is not None
        self._injection = FocusTally(reading, INJECTION) if is_fitted else None

    def add(self, shares: TokenShares, folds: Sequence[Sequence[float]]) -> None:
        """Count one token."""
        self._focus.add(shares, folds)
        if self._injection is not None:
            self._injection.add(shares, folds)

    def tell(self, to: Attention) -> None:
        """Add the focus where a part is untrusted, and, by a profile, how likely one holds an instruction."""
        focus = self._focus.focus
        if focus is None:
            return
        to.focus, to.focus_is_fitted = round(focus.value, _DIGITS), focus.is_fitted
        safety = None if self._injection is None else self._injection.focus
        if safety is not None and safety.is_fitted:
            to.injection = round(1 - safety.value, _DIGITS)


def rule_of(model: CompletionModel, param: AttentionParam | None, may_call: bool) -> FocusRule | None:
    """What calls of an answer must keep to; None where there are none, or nothing is asked of them.

    Raises:
        InputError: a request asks something of calls, and may have none.
    """
    minimum = None if param is None else param.tool_focus_min
    if not may_call:
        if minimum is not None:
            raise InputError(
                "tool_focus_min is asked of calls of functions, and none may be called here. Offer tools, or "
                "leave it out."
            )
        return None
    return stricter(model.watching.calls, minimum)


def is_judged(
    rule: FocusRule, model: CompletionModel, param: AttentionParam | None, segments: PromptSegments
) -> bool:
    """Whether calls of the answer to a prompt are judged; they are not where all of it is trusted.

    Raises:
        InputError: they should be and can't: the model can't be watched, or other heads are asked for.
    """
    if not is_divided(segments):
        return False
    if model.watchable is None:
        if rule.passes_unwatched:
            return False
        raise InputError(
            "calls of functions are judged here by what they were written attending to, and "
            f"{model.name} can't be watched. Leave out tools, or what is no trusted instruction."
        )
    if param is not None and (param.heads is not None or param.every is not None):
        raise InputError(
            "calls of functions are judged here by all their tokens and by heads that the server chooses. "
            "Leave out heads and every, or tools."
        )
    return True
