"""Shape files in vector stores, as OpenAI's clients send and read them. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.retrieval.library import Attribute, Batch, Counts, Placement, Shelved
from cynosure.server.schemas.filters import Attributes
from cynosure.server.schemas.wire import Text, WireRequest

MAX_BATCH = 2000


class Chunking(WireRequest):
    """Files are cut by their own structure, so that no sizes are taken."""

    type: Literal["auto"]


class AttachRequest(WireRequest):
    """A file to put into a store, and what to say of it."""

    file_id: Text
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    @property
    def placement(self) -> Placement:
        """What the library is asked."""
        return Placement(self.file_id, self.attributes or {})


class AttributesRequest(WireRequest):
    """What to say of a file in a store instead."""

    attributes: Attributes | None


class BatchRequest(WireRequest):
    """Several files, of which one thing is said, or each its own."""

    file_ids: Annotated[list[Text], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    files: Annotated[list[AttachRequest], Field(min_length=1, max_length=MAX_BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    @model_validator(mode="after")
    def _files_come_from_one_place(self) -> BatchRequest:
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("file_ids or files: give one of them")
        if self.files is not None and self.attributes is not None:
            raise ValueError("attributes stand beside file_ids, or with each of files")
        return self

    @property
    def placements(self) -> list[Placement]:
        """What the library is asked."""
        if self.files is not None:
            return [one.placement for one in self.files]
        return [Placement(file_id, self.attributes or {}) for file_id in self.file_ids or []]


class OtherChunking(BaseModel):
    """A file is cut where its headings, pages, functions and rows are."""

    type: Literal["other"] = "other"


class LastError(BaseModel):
    """Why a file is not found."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class StoreFile(BaseModel):
    """A file in a store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    usage_bytes: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "failed"]
    last_error: LastError | None
    chunking_strategy: OtherChunking = OtherChunking()
    attributes: dict[str, Attribute]

    @classmethod
    def of(cls, one: Shelved) -> StoreFile:
        """As clients read it."""
        fault = one.fault
        return cls(
            id=one.id,
            created_at=one.created_at,
            usage_bytes=one.num_bytes,
            vector_store_id=one.store_id,
            status=one.state,
            last_error=None if fault is None else LastError(code=fault.code, message=fault.message),
            attributes=dict(one.attributes),
        )


class StoreFileList(BaseModel):
    """All files of a store, or a part of them."""

    object: Literal["list"] = "list"
    data: list[StoreFile]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoreFileDeleted(BaseModel):
    """A file that is in the store no more; it is kept."""

    id: str
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: Literal[True] = True


class FileText(BaseModel):
    """What was read of a file."""

    type: Literal["text"] = "text"
    text: str


class FileTextPage(BaseModel):
    """All of it; there is never a second page."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: list[FileText]
    has_more: Literal[False] = False
    next_page: None = None


class FileCounts(BaseModel):
    """Files by their state; of the server's own stores, documented objects."""

    in_progress: int = 0
    completed: int
    failed: int = 0
    cancelled: int = 0
    total: int

    @classmethod
    def of(cls, counts: Counts) -> FileCounts:
        """As clients read it."""
        return cls(
            in_progress=counts.in_progress,
            completed=counts.completed,
            failed=counts.failed,
            total=counts.total,
        )


class FileBatch(BaseModel):
    """Files that came together, as far as they are still in the store."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed"]
    file_counts: FileCounts

    @classmethod
    def of(cls, batch: Batch) -> FileBatch:
        """As clients read it."""
        return cls(
            id=batch.id,
            created_at=batch.created_at,
            vector_store_id=batch.store_id,
            status="in_progress" if batch.counts.in_progress else "completed",
            file_counts=FileCounts.of(batch.counts),
        )
