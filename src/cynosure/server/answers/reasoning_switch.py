"""Say to a template how much a model is to think. Knows nothing of what it thinks."""

from __future__ import annotations

from cynosure.core.errors import UnknownOption
from cynosure.models.chat.format import ChatFormat

#: By which templates turn reasoning off, and by which they set its effort.
_SWITCH, _EFFORT = "enable_thinking", "reasoning_effort"


def reasoning_variables(name: str, chat: ChatFormat, effort: str | None) -> dict[str, object]:
    """The template's variables for an effort; `none` turns reasoning off.

    Raises:
        UnknownOption: the template has nothing to say it by.
    """
    if effort is None:
        return {}
    if chat.template.reads(_EFFORT):
        return {_EFFORT: effort}
    if effort == "none":
        return without_reasoning(name, chat)
    raise UnknownOption(
        f"the chat template of {name} reads no reasoning_effort. Leave it out"
        + (", or send none." if chat.template.reads(_SWITCH) else ".")
    )


def without_reasoning(name: str, chat: ChatFormat) -> dict[str, object]:
    """The template's variables that turn reasoning off; none for a model that does not reason.

    Raises:
        UnknownOption: it always reasons.
    """
    if not chat.has_reasoning:
        return {}
    if not chat.template.reads(_SWITCH):
        raise UnknownOption(f"{name} always thinks; it has no switch. Ask for no such thing.")
    return {_SWITCH: False}
