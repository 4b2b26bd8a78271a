"""Serve `/v1/files`. Knows nothing of what files hold, or of stores."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Query, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import InputError, UnknownOption
from cynosure.server.routes.access import known_query
from cynosure.server.routes.shelf import NO_QUERY, Paging, Shelved, page_of
from cynosure.server.schemas.files import FileDeleted, FileList, FileObject, Purpose

router = APIRouter(prefix="/v1/files", tags=["files"])

MAX_LISTED = 10_000
_FIELDS = ("file", "purpose")


async def _known_fields(request: Request) -> None:
    """Refuse every field of the form but those that are read, and each that comes twice."""
    names = [name for name, _ in (await request.form()).multi_items()]
    for name in names:
        if name not in _FIELDS:
            raise UnknownOption(
                f"field {name[:60]!r} is not known here, and nothing is ignored; known: file, purpose. "
                "Leave it out."
            )
        if names.count(name) > 1:
            raise InputError(f"field {name!r} comes {names.count(name)} times. Send one file a request.")


@router.post("", dependencies=[*NO_QUERY, Depends(_known_fields)])
async def upload(file: UploadFile, purpose: Annotated[Purpose, Form()], shelf: Shelved) -> FileObject:
    """Keep a file; whether it can be read shows when it is put into a vector store."""
    content = await file.read()
    return FileObject.of(await run_in_threadpool(shelf.add_file, file.filename or "", purpose, content))


@router.get("", dependencies=[Depends(known_query("limit", "order", "after", "purpose"))])
async def list_files(
    shelf: Shelved,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
    purpose: Purpose | None = None,
) -> FileList:
    """List the files, the newest first."""
    files = await run_in_threadpool(shelf.files)
    wanted = [file for file in files if purpose in (None, file.purpose)]
    page = page_of(wanted, Paging(limit, order, after, None))
    return FileList(
        data=[FileObject.of(file) for file in page.data],
        first_id=page.first_id,
        last_id=page.last_id,
        has_more=page.has_more,
    )


@router.get("/{file_id}", dependencies=NO_QUERY)
async def retrieve_file(file_id: str, shelf: Shelved) -> FileObject:
    """Describe one file."""
    return FileObject.of(await run_in_threadpool(shelf.file, file_id))


@router.get(
    "/{file_id}/content",
    dependencies=NO_QUERY,
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
async def file_content(file_id: str, shelf: Shelved) -> Response:
    """Give a file back, byte by byte."""
    content = await run_in_threadpool(shelf.content, file_id)
    # Never shown as a page of ours, whatever it holds.
    headers = {"Content-Disposition": "attachment"}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}", dependencies=NO_QUERY)
async def delete_file(file_id: str, shelf: Shelved) -> FileDeleted:
    """Forget a file, in every vector store too."""
    await run_in_threadpool(shelf.remove_file, file_id)
    return FileDeleted(id=file_id)
