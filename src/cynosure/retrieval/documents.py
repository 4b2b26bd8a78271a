"""Say what a documented object and a passage of it are. Knows nothing of how they are read or found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

#: `Entry.source` of what the object itself carries, and of what the reference documentation says of it.
DOCSTRING = "docstring"
REFERENCE = "reference"


@dataclass(frozen=True)
class Entry:
    """A text of a documented object.

    Attributes:
        name: The canonical qualified name; builtins stand without a module.
        kind: `module`, `class`, `function`, `method` or `property`; the reference also knows `data`.
        module: The module that it is found in.
        signature: Its parameter list in parentheses, or empty.
        doc: Its docstring, verbatim, or what the reference says of it: what all offsets count in.
        aliases: Other names of the same object.
        deprecated: Whether its module warns of its own removal.
        start: Where `doc` begins in the text that it is a part of; 0 where it is the whole.
        source: `docstring`, or `reference` for a further text of the object of the same name.

    A part of a file is an entry too: `module` is the file, `kind` such as `section`, `text` or `rows`.
    """

    name: str
    kind: str
    module: str
    signature: str
    doc: str
    aliases: tuple[str, ...] = ()
    deprecated: bool = False
    start: int = 0
    source: str = DOCSTRING

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Entry:
        """Build an entry from a JSON object; raises `TypeError` or `KeyError` where a field is amiss."""
        values: dict[str, Any] = {**fields, "aliases": tuple(fields["aliases"])}
        return cls(**values)


@dataclass(frozen=True)
class Phrase:
    """How people ask for the object of `entry`; it leads there, and is never quoted."""

    entry: int
    text: str


@dataclass(frozen=True)
class Documentation:
    """All that was read, from where, and what could not be; `asked` is how people ask, by name."""

    source: str
    entries: tuple[Entry, ...]
    failed: dict[str, str]
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """A slice of an entry's docstring, and the text that stands for it in the embedder.

    Attributes:
        entry: Position of the entry in its documentation.
        start: First code point in `Entry.doc`.
        end: One past the last.
        heading: What precedes the slice in the embedded text, so that a short passage has its context.
    """

    entry: int
    start: int
    end: int
    heading: str

    def text(self, doc: str) -> str:
        """The embedded text: the heading, then the docstring's own characters, unchanged."""
        return self.heading + doc[self.start : self.end]


def object_places(entries: Sequence[Entry]) -> Int64[np.ndarray, " entries"]:
    """The entry that stands for each entry's object: its own place, or the first text of the same object.

    Only texts of the reference are further texts; parts of files may have one name and remain apart.
    """
    first: dict[str, int] = {}
    for place, entry in enumerate(entries):
        first.setdefault(entry.name, place)
    places = [
        first[entry.name] if entry.source == REFERENCE else place for place, entry in enumerate(entries)
    ]
    return np.array(places, dtype=np.int64).reshape(-1)
