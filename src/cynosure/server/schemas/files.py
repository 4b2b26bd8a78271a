"""Shape `/v1/files`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from cynosure.retrieval.library import KeptFile

#: What files are taken for: to be searched.
Purpose = Literal["assistants", "user_data"]


class FileObject(BaseModel):
    """A file that is kept."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: None = None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: KeptFile) -> FileObject:
        """As clients read it."""
        return cls(
            id=file.id,
            bytes=file.num_bytes,
            created_at=file.created_at,
            filename=file.filename,
            purpose=file.purpose,
        )


class FileList(BaseModel):
    """All files, or a part of them."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that is kept no more, and in no store."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
