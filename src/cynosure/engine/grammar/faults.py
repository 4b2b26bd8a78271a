"""Say what is wrong with a constraint, and where. Knows nothing of how it was found out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from cynosure.engine.constraints import Constraint, ConstraintKind

MAX_SHOWN = 300

#: What the compiler calls a grammar without a first token.
_NO_EXTENSION = "NoExtensionBias"
_KEYS = re.compile(r"Unimplemented keys: (\[.*\])")


def explained(constraint: Constraint, message: str) -> str:
    """A compiler's message, shortened; of a schema's keyword that is not served, with the place.

    Of the other languages the compiler itself tells line and column.
    """
    text = message.replace("<non-verbose/>", "").strip(" .:\n")[:MAX_SHOWN]
    if text == _NO_EXTENSION:
        return "no text fits it"
    keys = _KEYS.search(message)
    if keys is None or constraint.kind is not ConstraintKind.JSON_SCHEMA:
        return text
    names = set(json.loads(keys[1]))
    places = (place for place, value in _objects(json.loads(constraint.text), "#") if names <= value.keys())
    return f"{text} at {next(places, '#')[:MAX_SHOWN]}"


def _objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401 - any JSON
    """Every object in a schema with its JSON pointer; how deep they nest is bounded."""
    if isinstance(value, dict):
        yield place, value
        for name, child in value.items():
            yield from _objects(child, f"{place}/{name}")
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _objects(child, f"{place}/{number}")
