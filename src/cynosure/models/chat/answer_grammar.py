"""Write a grammar of answers: thought, then text, calls or a form. Knows nothing of how it is enforced.

The language is Lark as `llguidance` reads it: `@answer` stands for a form that is given elsewhere, `%json`
for what a schema accepts, and `<[7]>` for the control token 7, which no text spells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cynosure.models.chat import reasoning
from cynosure.models.chat.tool_calls import CLOSING, MARKERS, ToolFormat
from cynosure.models.chat.tool_offer import Tool, ToolChoice, ToolOffer
from cynosure.models.text.tokenizer import Tokenizer


class Thinking(Enum):
    """Whether an answer begins with a span of reasoning."""

    NONE = "none"
    POSSIBLE = "possible"
    OPEN = "open"


#: As templates write JSON, so that an answer reads like what the model was trained on.
_AS_WRITTEN: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_KEYS: Final[Mapping[ToolFormat, str]] = {
    ToolFormat.HERMES: "arguments",
    ToolFormat.LLAMA3: "parameters",
    ToolFormat.MISTRAL: "arguments",
}
_TERMINALS: Final = r"""
TEXT: /(.|\n)*/
PROSE: /[ \n\r\t;]*[^{ \n\r\t;](.|\n)*/
SPACE: /[ \n\r\t]{0,20}/
"""


@dataclass(frozen=True)
class AnswerGrammar:
    """What an answer may be.

    Attributes:
        tokenizer: Says which marks are control tokens.
        thinking: Whether it begins with reasoning.
        format: How the model calls; None where it is offered nothing.
        offer: What it may call.
        has_form: Whether text must take the form `@answer`.
    """

    tokenizer: Tokenizer
    thinking: Thinking
    format: ToolFormat | None
    offer: ToolOffer
    has_form: bool

    @property
    def lark(self) -> str:
        """The grammar, from its rule `start`."""
        rules = ["%llguidance {}", f"start: {self._thought()} body"]
        if self.thinking is not Thinking.NONE:
            rules += ["rest: " + self._until("thought_end", reasoning.CLOSE)]
            rules += [_spelled("thought_end", reasoning.CLOSE)]
        if self.format is None or not self.offer.callable_names:
            rules.append("body: @answer" if self.has_form else "body: TEXT")
        else:
            rules += self._calling(self.format)
        return "\n".join(rules) + _TERMINALS

    def _thought(self) -> str:
        if self.thinking is Thinking.NONE:
            return ""
        if self.thinking is Thinking.OPEN:
            return "rest SPACE"
        return f"({self._mark(reasoning.OPEN)} rest SPACE)?"

    def _calling(self, format: ToolFormat) -> list[str]:
        """The rules of a body that is, or may hold, calls."""
        marker = MARKERS[format]
        if format is ToolFormat.HERMES:
            rules = [f"call: {self._mark(marker)} inside", f'inside: "\\n" tool "\\n" {self._mark(CLOSING)}']
            calls = self._many("call", "\n")
            freely = "(head inside)* TEXT" if self.offer.may_call_many else "TEXT | head inside"
        elif format is ToolFormat.LLAMA3:
            rules, calls = [], self._many("tool", "; ")
            freely = f"PROSE? | {self._mark(marker)}? {calls}"
        else:
            rules = [f'inside: "[" {self._many("tool", ", ")} "]"']
            calls, freely = f"{self._mark(marker)} inside", "TEXT | head inside"
        if self.offer.choice is ToolChoice.REQUIRED:
            rules.append(f"body: {calls}")
        elif self.has_form:
            rules.append(f"body: @answer | {calls}")
        else:
            rules.append(f"body: {freely}")
            if "head" in freely:
                rules += ["head: " + self._until("opening", marker), _spelled("opening", marker)]
        return rules + self._tools(_KEYS[format])

    def _many(self, rule: str, between: str) -> str:
        """One or more, or one alone."""
        return f"{rule} ({json.dumps(between)} {rule})*" if self.offer.may_call_many else rule

    def _tools(self, key: str) -> list[str]:
        tools = [tool for tool in self.offer.tools if tool.name in self.offer.callable_names]
        rules = ["tool: " + " | ".join(f"tool_{place}" for place in range(len(tools)))]
        for place, tool in enumerate(tools):
            begin = f'{{"name": {json.dumps(tool.name)}, "{key}": '
            schema = json.dumps(self._schema(tool) | {"x-guidance": _AS_WRITTEN})
            rules.append(f'tool_{place}: {json.dumps(begin)} %json {schema} "}}"')
        return rules

    def _schema(self, tool: Tool) -> dict[str, object]:
        """What its arguments must be: only what must be called, or is strict, follows its own schema."""
        is_held = tool.is_strict or self.offer.choice is ToolChoice.REQUIRED
        return {"type": "object", **(tool.parameters or {} if is_held else {})}

    def _mark(self, text: str) -> str:
        """A mark, as a token of its own or spelled."""
        token_id = self.tokenizer.token_to_id(text)
        spelled = json.dumps(text)
        return spelled if token_id is None else f"(<[{token_id}]> | {spelled})"

    def _until(self, name: str, text: str) -> str:
        """Any text up to a mark, and the mark."""
        token_id = self.tokenizer.token_to_id(text)
        return name if token_id is None else f"TEXT <[{token_id}]> | {name}"


def _spelled(name: str, text: str) -> str:
    # The first occurrence ends it.
    return f"{name}[lazy]: TEXT {json.dumps(text)}"
