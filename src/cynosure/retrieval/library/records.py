"""Say what a library keeps: files, stores, and files in stores. Knows nothing of where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Attribute: TypeAlias = str | int | float | bool
State: TypeAlias = Literal["in_progress", "completed", "failed"]
FaultCode: TypeAlias = Literal["server_error", "unsupported_file", "invalid_file"]

IN_PROGRESS: State = "in_progress"
COMPLETED: State = "completed"
FAILED: State = "failed"


@dataclass(frozen=True)
class LibraryLimits:
    """How much one tenant may keep; every limit is named in the refusal that it causes."""

    max_file_bytes: int = 16 << 20
    max_files: int = 10_000
    max_bytes: int = 1 << 30
    max_stores: int = 100


@dataclass(frozen=True)
class KeptFile:
    """A file as it was uploaded, beside its content."""

    id: str
    filename: str
    purpose: str
    num_bytes: int
    created_at: int


@dataclass(frozen=True)
class Fault:
    """Why a file could not be indexed, in words for its owner."""

    code: FaultCode
    message: str


@dataclass(frozen=True)
class Shelved:
    """A file in a store.

    Attributes:
        id: The file's.
        store_id: The store's.
        filename: What the file is called.
        number: Grows with each time that a file is put into a store; tells one time from the next.
        state: Whether it is found.
        created_at: When it was put there.
        attributes: What its owner says of it, to filter by.
        fault: Why it failed, where it did.
        num_bytes: Of its text and vectors in the index.
        batch: The batch that it came with, or empty.
    """

    id: str
    store_id: str
    filename: str
    number: int
    state: State
    created_at: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    fault: Fault | None = None
    num_bytes: int = 0
    batch: str = ""


@dataclass(frozen=True)
class Counts:
    """Files by their state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed


@dataclass(frozen=True)
class KeptStore:
    """A store: files that are searched together. `active_at` is when it was last changed."""

    id: str
    name: str
    description: str
    metadata: Mapping[str, str]
    created_at: int
    active_at: int
    num_bytes: int = 0
    counts: Counts = Counts()


@dataclass(frozen=True)
class Batch:
    """Files that were put into a store in one go."""

    id: str
    store_id: str
    created_at: int
    counts: Counts = Counts()


@dataclass(frozen=True)
class Placement:
    """A file to put into a store, and what its owner says of it."""

    file_id: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class FileHit:
    """A passage of a file in a store, verbatim: `start:end` in code points of the file's text.

    Attributes:
        file_id: The file.
        filename: What it is called.
        attributes: What its owner says of it.
        name: The part of the file, such as a section or a page.
        kind: What kind of part that is.
        text: The passage.
        start: First code point in the file's text.
        end: One past the last.
        score: From 0 to 1; at one half, words and vectors say as much for it as against it.
        similarity: Cosine of query and passage.
    """

    file_id: str
    filename: str
    attributes: Mapping[str, Attribute]
    name: str
    kind: str
    text: str
    start: int
    end: int
    score: float
    similarity: float
