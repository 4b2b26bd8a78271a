"""Find calls of functions in what a model writes, as the text arrives. Knows nothing of tokens or HTTP.

A call is handed out whole: only then is it known to be one. What looks like a call and is none (no JSON, no
name, a function that was not offered) stays the text that it is.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NoReturn


class ToolFormat(Enum):
    """How a family of models writes calls."""

    #: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one a call.
    HERMES = "hermes"
    #: `{"name": ..., "parameters": {...}}` at the start, after `<|python_tag|>` or not; `;` between calls.
    LLAMA3 = "llama3"
    #: `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`.
    MISTRAL = "mistral"


#: What stands before calls; a tokenizer may hold it as a control token, which is then to be shown as text.
MARKERS: Final[Mapping[ToolFormat, str]] = {
    ToolFormat.HERMES: "<tool_call>",
    ToolFormat.LLAMA3: "<|python_tag|>",
    ToolFormat.MISTRAL: "[TOOL_CALLS]",
}
#: What ends a call of Hermes's form.
CLOSING: Final = "</tool_call>"
_ARGUMENTS: Final = ("arguments", "parameters")

_SPACE = re.compile(r"\s*")
_STRUCTURE = re.compile(r"""["{}\[\]]|\\.""", re.DOTALL)
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ToolCall:
    """A call of an offered function; `arguments` is the text of a JSON object."""

    index: int
    id: str
    name: str
    arguments: str


def format_of(template: str) -> ToolFormat | None:
    """The format that a chat template teaches; None where it teaches none that is known here."""
    if MARKERS[ToolFormat.MISTRAL] in template:
        return ToolFormat.MISTRAL
    if MARKERS[ToolFormat.HERMES] in template:
        return ToolFormat.HERMES
    is_llama = "<|start_header_id|>" in template and "parameters" in template
    return ToolFormat.LLAMA3 if is_llama or MARKERS[ToolFormat.LLAMA3] in template else None


class ToolCallReader:
    """Reads one answer; `push` its text as it comes, then `finish` once.

    White space before a call, and between calls, gives no text.

    Args:
        format: How the model writes calls.
        names: The functions that were offered.
    """

    def __init__(self, format: ToolFormat, names: Collection[str]) -> None:
        """Start before the first character."""
        self._format = format
        self._names = frozenset(names)
        self._marker = MARKERS[format]
        self._held = ""
        self._num_calls = 0
        #: Whether no text came yet, so that what begins now may be a call without a marker (Llama).
        self._is_at_start = True
        self._scan = _JsonScan()

    @property
    def num_calls(self) -> int:
        """How many calls were found."""
        return self._num_calls

    def push(self, text: str) -> list[str | ToolCall]:
        """The text and the calls that are final now."""
        self._held += text
        return self._read(is_end=False)

    def finish(self) -> list[str | ToolCall]:
        """What was held back."""
        return self._read(is_end=True)

    def _read(self, is_end: bool) -> list[str | ToolCall]:
        found: list[str | ToolCall] = []
        while self._held:
            opening = self._opening()
            if opening is None:
                return found + self._without_call(is_end)
            start, body = opening
            calls, end = self._parsed(body, is_end)
            if calls is None:
                # The text before is final; white space is not, since a call would take it.
                return found + self._text(len(self._trimmed(self._held[:start])))
            self._scan = _JsonScan()
            if calls:
                before, self._held = self._trimmed(self._held[:start]), self._held[end:]
                found += [*([before] if before else []), *calls]
            else:
                self._is_at_start = False
                found += self._text(body)
        return found

    def _opening(self) -> tuple[int, int] | None:
        """Where something begins that may be a call, and where its JSON does."""
        start = self._held.find(self._marker)
        if self._format is ToolFormat.LLAMA3 and self._is_at_start:
            first = len(self._held) - len(self._held.lstrip(self._separators))
            if self._held[first : first + 1] == "{":
                return first, first
        return None if start < 0 else (start, start + len(self._marker))

    def _without_call(self, is_end: bool) -> list[str | ToolCall]:
        """The text that can't become a call any more."""
        trimmed = len(self._trimmed(self._held))
        if is_end:
            return self._text(len(self._held)) if trimmed or not self._num_calls else []
        free = len(self._held) - _num_claimed(self._held, self._marker)
        return self._text(len(self._trimmed(self._held[:free])))

    def _parsed(self, body: int, is_end: bool) -> tuple[list[ToolCall] | None, int]:
        """The calls in what follows a marker, and where they end; None until that can be said."""
        held = self._held
        incomplete = ([], 0) if is_end else (None, 0)
        first = _end_of_space(held, body)
        if first == len(held):
            return incomplete
        if held[first] != ("[" if self._format is ToolFormat.MISTRAL else "{"):
            return [], 0
        end = self._scan.end(held, first)
        if end is None:
            return incomplete
        if self._format is not ToolFormat.HERMES:
            return self._calls(held[first:end]), end
        closing = _end_of_space(held, end)
        tail = held[closing : closing + len(CLOSING)]
        if not CLOSING.startswith(tail):
            return [], 0
        if tail != CLOSING and not is_end:
            return incomplete
        return self._calls(held[first:end]), closing + len(tail)

    def _calls(self, text: str) -> list[ToolCall]:
        """The calls in a JSON value; none where one of them is not well formed."""
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return []
        calls = []
        for item in value if isinstance(value, list) else [value]:
            name = item.get("name") if isinstance(item, dict) else None
            arguments = next((item[key] for key in _ARGUMENTS if key in item), None) if name else None
            if not isinstance(name, str) or name not in self._names or not isinstance(arguments, dict):
                return []
            written = json.dumps(arguments, ensure_ascii=False)
            calls.append(ToolCall(self._num_calls + len(calls), self._new_id(), name, written))
        self._num_calls += len(calls)
        return calls

    def _new_id(self) -> str:
        # Mistral's templates take no other form.
        if self._format is ToolFormat.MISTRAL:
            return "".join(secrets.choice(_LETTERS) for _ in range(9))
        return f"call_{secrets.token_hex(12)}"

    @property
    def _separators(self) -> str:
        is_after_call = self._format is ToolFormat.LLAMA3 and self._is_at_start and self._num_calls
        return string.whitespace + ";" * bool(is_after_call)

    def _trimmed(self, text: str) -> str:
        return text.rstrip(self._separators)

    def _text(self, length: int) -> list[str | ToolCall]:
        text, self._held = self._held[:length], self._held[length:]
        self._is_at_start = self._is_at_start and not text.strip()
        return [text] if text else []


class _JsonScan:
    """Finds the end of an object or array in a text that grows, reading each character once."""

    def __init__(self) -> None:
        self._num_read = 0
        self._depth = 0
        self._is_in_string = False

    def end(self, text: str, start: int) -> int | None:
        """Behind the bracket that closes the one at `start`; None where it has not come."""
        for match in _STRUCTURE.finditer(text, start + self._num_read):
            self._num_read = match.start() - start
            if match[0] == '"':
                self._is_in_string = not self._is_in_string
            elif len(match[0]) == 1 and not self._is_in_string:
                self._depth += 1 if match[0] in "{[" else -1
                if self._depth <= 0:
                    # Read again when what follows has come.
                    self._depth = 1
                    return match.end()
            self._num_read += len(match[0])
        # A backslash at the end waits for what it escapes.
        self._num_read = max(self._num_read, len(text) - start - text.endswith("\\"))
        return None


def _end_of_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    assert match is not None, "the pattern matches nothing at all, too"
    return match.end()


def _num_claimed(text: str, marker: str) -> int:
    """How many characters at the end are the beginning of a marker."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
