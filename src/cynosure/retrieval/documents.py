"""Say what a documented object and a passage of it are. Knows nothing of how they are read or found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A documented object.

    Attributes:
        name: The canonical qualified name; builtins stand without a module.
        kind: `module`, `class`, `function`, `method` or `property`.
        module: The module that it is found in.
        signature: Its parameter list in parentheses, or empty.
        doc: Its docstring, verbatim: what all offsets count in.
        aliases: Other names of the same object.
        deprecated: Whether its module warns of its own removal.
        start: Where `doc` begins in the text that it is a part of; 0 where it is the whole.

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

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Entry:
        """Build an entry from a JSON object; raises `TypeError` or `KeyError` where a field is amiss."""
        values: dict[str, Any] = {**fields, "aliases": tuple(fields["aliases"])}
        return cls(**values)


@dataclass(frozen=True)
class Documentation:
    """All that was read, from where, and what could not be."""

    source: str
    entries: tuple[Entry, ...]
    failed: dict[str, str]


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
