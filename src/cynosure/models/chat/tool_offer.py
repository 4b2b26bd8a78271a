"""Say which functions a model is offered, and how free it is to call them. Knows nothing of how it calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from cynosure.core.errors import InputError


class ToolChoice(Enum):
    """Whether an answer may, must or may not be a call."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True)
class Tool:
    """A function that is offered.

    Attributes:
        name: What it is called.
        schema: What templates read.
        parameters: The JSON schema of its arguments; None takes any object.
        is_strict: Whether arguments follow that schema to the letter, also where the model is free to call.
    """

    name: str
    schema: Mapping[str, object]
    parameters: Mapping[str, object] | None = None
    is_strict: bool = False


@dataclass(frozen=True)
class ToolOffer:
    """Functions, and what may be done with them.

    Attributes:
        tools: What the model is told of.
        callable_names: What it may call.
        choice: Whether it must.
        may_call_many: Whether one answer may hold several calls.
    """

    tools: tuple[Tool, ...] = ()
    callable_names: frozenset[str] = frozenset()
    choice: ToolChoice = ToolChoice.AUTO
    may_call_many: bool = True

    @classmethod
    def of(
        cls,
        tools: Sequence[Tool],
        *,
        choice: ToolChoice = ToolChoice.AUTO,
        named: str | None = None,
        may_call_many: bool = True,
    ) -> ToolOffer:
        """What a request offers; with `named`, that one function must be called.

        Raises:
            InputError: a call is required, and no function, or not that one, is offered; two have one name.
        """
        names = [tool.name for tool in tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two tools are called {twice!r}; a call could mean either. Rename one.")
        if choice is ToolChoice.NONE:
            return cls((), frozenset(), choice, may_call_many)
        if named is not None and named not in names:
            known = ", ".join(names) or "none"
            raise InputError(
                f"tool_choice names the function {named!r}, which is not offered; these are: {known}. Name "
                "one of them."
            )
        if choice is ToolChoice.REQUIRED and not tools:
            raise InputError(
                "tool_choice requires a call, and no tools are given. Give some, or leave it out."
            )
        if named is not None:
            return cls(tuple(tools), frozenset([named]), ToolChoice.REQUIRED, may_call_many=False)
        return cls(tuple(tools), frozenset(names), choice, may_call_many)

    @property
    def is_free(self) -> bool:
        """Whether nothing need be enforced: what the model writes is read, whatever it is."""
        is_strict = any(tool.is_strict for tool in self.tools)
        return not self.tools or (self.choice is ToolChoice.AUTO and self.may_call_many and not is_strict)
