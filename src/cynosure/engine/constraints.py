"""Say what an answer must look like. Knows nothing of tokens, nor of how that is enforced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cynosure.core.errors import InputError, InputTooLong

MAX_BYTES = 65_536
MAX_DEPTH = 64
MAX_CHOICES = 1024

#: Read by the compiler as options of its own; `lenient` among them drops what it does not understand.
_OPTIONS_KEY = "x-guidance"


class ConstraintKind(Enum):
    """In which language a constraint is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    GRAMMAR = "grammar"
    CHOICE = "choice"


@dataclass(frozen=True)
class Constraint:
    """A description that the whole answer fits, unless it is cut by length, a stop text or a stop token.

    - `text`: a JSON object for a schema, a JSON list of strings for a choice; a regular expression in Rust's
      syntax, which matches the answer from end to end, with ASCII digits, words and space; a Lark grammar.
    - `around`: a Lark grammar of the whole answer, in which `@answer` stands for what `text` describes:
      reasoning before it, or calls in its place.
    """

    kind: ConstraintKind
    text: str
    around: str | None = None

    def __post_init__(self) -> None:
        """Check the size.

        Raises:
            InputTooLong: the text is over `MAX_BYTES`.
            InputError: it is empty, or holds half of a surrogate pair.
        """
        if not self.text:
            raise InputError(f"the {self.kind.value} is empty; an answer could be nothing. Leave it out.")
        try:
            size = len(self.text.encode()) + len((self.around or "").encode())
        except UnicodeEncodeError as error:
            raise InputError(
                f"the {self.kind.value} holds half of a surrogate pair, which is no text. Leave it out."
            ) from error
        if size > MAX_BYTES:
            raise InputTooLong(
                f"the {self.kind.value} has {size} bytes; the limit is {MAX_BYTES}. Shorten it."
            )


def json_object() -> Constraint:
    """Any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: Mapping[str, Any]) -> Constraint:
    """JSON that a schema accepts; properties come in the schema's order.

    Raises:
        InputError: it is nested deeper than `MAX_DEPTH`, holds what is not JSON, or options for a compiler.
        InputTooLong: it is too long.
    """
    _check_depth(schema)
    if _OPTIONS_KEY in schema:
        raise InputError(f"the json_schema sets {_OPTIONS_KEY!r}, which is not served. Leave it out.")
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"the json_schema is not made of JSON values: {error}. Send plain JSON.") from error
    return Constraint(ConstraintKind.JSON_SCHEMA, text)


def regex(pattern: str) -> Constraint:
    """Text that a regular expression matches from end to end."""
    return Constraint(ConstraintKind.REGEX, pattern)


def grammar(lark: str) -> Constraint:
    """Text that a context-free grammar derives from its rule `start`."""
    return Constraint(ConstraintKind.GRAMMAR, lark)


def choice(options: Sequence[str]) -> Constraint:
    """One of several texts, word for word.

    Raises:
        InputError: there is none, too many, or an empty one.
        InputTooLong: they are too long together.
    """
    if not 1 <= len(options) <= MAX_CHOICES:
        raise InputError(
            f"there are {len(options)} choices; the limits are 1 and {MAX_CHOICES}. Change them."
        )
    if not all(options):
        raise InputError(f"choice {list(options).index('')} is empty; nothing can't be said. Leave it out.")
    return Constraint(ConstraintKind.CHOICE, json.dumps(list(options), ensure_ascii=False))


def _check_depth(schema: Mapping[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise InputError(f"the json_schema is nested more than {MAX_DEPTH} deep, the limit. Flatten it.")
