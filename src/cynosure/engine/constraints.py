"""Say what an answer must look like. Knows nothing of tokens, nor of how that is enforced."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine.python_lexer import end_of

MAX_BYTES = 65_536
#: Texts to quote and names are read in one go, whatever they say; a grammar is a program.
MAX_QUOTED_BYTES = 262_144
MAX_DEPTH = 64
MAX_CHOICES = 1024
MAX_TEXTS = 256
MAX_NAMES = 16_384
MAX_MIN_CHARS = 1000

#: Read by the compiler as options of its own; `lenient` among them drops what it does not understand.
_OPTIONS_KEY = "x-guidance"


class ConstraintKind(Enum):
    """In which language a constraint is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    GRAMMAR = "grammar"
    CHOICE = "choice"
    VERBATIM = "verbatim"
    NAMES = "names"

    @property
    def max_bytes(self) -> int:
        """How long a constraint may be."""
        return MAX_QUOTED_BYTES if self.is_plain else MAX_BYTES

    @property
    def is_plain(self) -> bool:
        """Whether it is no program of the caller's: it is read here, and says nothing but texts."""
        return self in (ConstraintKind.VERBATIM, ConstraintKind.NAMES)


@dataclass(frozen=True)
class Constraint:
    """A description that the whole answer fits, unless it is cut by length, a stop text or a stop token.

    - `text`: a JSON object for a schema, a JSON list of strings for a choice; a regular expression in Rust's
      syntax, which matches the answer from end to end, with ASCII digits, words and space; a Lark grammar;
      a JSON object of what is quoted, or of names.
    - `around`: a Lark grammar of the whole answer, in which `@answer` stands for what `text` describes:
      reasoning before it, or calls in its place.
    """

    kind: ConstraintKind
    text: str
    around: str | None = None

    @property
    def quoted(self) -> tuple[str, ...]:
        """The texts that it has an answer quote; none, of another kind."""
        return tuple(json.loads(self.text)["texts"]) if self.kind is ConstraintKind.VERBATIM else ()

    def __post_init__(self) -> None:
        """Check the size.

        Raises:
            InputTooLong: the text is over the limit of its kind.
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
        if size > self.kind.max_bytes:
            raise InputTooLong(
                f"the {self.kind.value} has {size} bytes; the limit is {self.kind.max_bytes}. Shorten it."
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


def verbatim(texts: Sequence[str], *, min_chars: int = 1) -> Constraint:
    """Quotes of given texts, word for word, a line break between two.

    Args:
        texts: what may be quoted. A quote is a run of characters of one text that neither begins nor ends
            with a line break; the model chooses where it begins and ends.
        min_chars: the fewest characters of a quote.

    Raises:
        InputError: there is no text, or too many, or an empty one; or the fewest characters are out of range.
        InputTooLong: they are too long together.
    """
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InputError(
            f"there are {len(texts)} texts to quote; the limits are 1 and {MAX_TEXTS}. Change them."
        )
    empty = next((place for place, text in enumerate(texts) if not text), None)
    if empty is not None:
        raise InputError(f"text {empty} to quote is empty; nothing can be quoted of it. Leave it out.")
    if not 1 <= min_chars <= MAX_MIN_CHARS:
        raise InputError(f"min_chars is {min_chars}; the limits are 1 and {MAX_MIN_CHARS}. Change it.")
    return _plain(ConstraintKind.VERBATIM, {"texts": list(texts), "min_chars": min_chars})


def names(known: Collection[str], *, before: str = "") -> Constraint:
    """Python whose names are known ones, or Python's own; numbers, strings and comments are free.

    Args:
        known: names of the file, and of the modules that it imports.
        before: the code that the answer goes on from. A name that it begins, and that no known one begins
            with, is the caller's, and goes on freely.

    Raises:
        InputError: there are too many, or one is no name.
        InputTooLong: they are too long together.
    """
    if len(known) > MAX_NAMES:
        raise InputError(f"there are {len(known)} names; the limit is {MAX_NAMES}. Leave some out.")
    odd = next((name for name in known if not name.isidentifier()), None)
    if odd is not None:
        raise InputError(f"{odd[:100]!r} is no name of Python. Leave it out.")
    return _plain(ConstraintKind.NAMES, {"names": sorted(set(known)), "after": end_of(before)})


def _plain(kind: ConstraintKind, asked: Mapping[str, Any]) -> Constraint:
    return Constraint(kind, json.dumps(asked, ensure_ascii=False, separators=(",", ":")))


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
