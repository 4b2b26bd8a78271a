"""Serve the files of a vector store, and batches of them. Knows nothing of how they are read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from starlette.concurrency import run_in_threadpool

from cynosure.retrieval.library import Shelf
from cynosure.server.routes.access import known_query
from cynosure.server.routes.shelf import NO_QUERY, Paged, Paging, Shelved, page_of
from cynosure.server.schemas.store_files import (
    AttachRequest,
    AttributesRequest,
    BatchRequest,
    FileBatch,
    FileText,
    FileTextPage,
    StoreFile,
    StoreFileDeleted,
    StoreFileList,
)

router = APIRouter(prefix="/v1/vector_stores/{store_id}", tags=["vector stores"])

StoreId = Annotated[str, Path()]
_LISTED = [Depends(known_query("limit", "order", "after", "before", "filter"))]
State = Literal["in_progress", "completed", "failed", "cancelled"]


@router.post("/files", dependencies=NO_QUERY)
async def attach(store_id: StoreId, body: AttachRequest, shelf: Shelved) -> StoreFile:
    """Put a file into a store; it is found when its status is completed."""

    def put() -> StoreFile:
        shelf.put(store_id, [body.placement])
        return StoreFile.of(shelf.one_shelved(store_id, body.file_id))

    return await run_in_threadpool(put)


@router.get("/files", dependencies=_LISTED)
async def list_attached(
    store_id: StoreId, shelf: Shelved, paging: Paged, filter: State | None = None
) -> StoreFileList:
    """List the files of a store, the newest first."""
    return await run_in_threadpool(_listed, shelf, store_id, paging, filter, None)


@router.get("/files/{file_id}", dependencies=NO_QUERY)
async def retrieve_attached(store_id: StoreId, file_id: str, shelf: Shelved) -> StoreFile:
    """Say how far a file is, and why it failed where it did."""
    return StoreFile.of(await run_in_threadpool(shelf.one_shelved, store_id, file_id))


@router.post("/files/{file_id}", dependencies=NO_QUERY)
async def change_attached(
    store_id: StoreId, file_id: str, body: AttributesRequest, shelf: Shelved
) -> StoreFile:
    """Say other things of a file, by which searches filter from now on."""
    changed = await run_in_threadpool(shelf.describe, store_id, file_id, body.attributes or {})
    return StoreFile.of(changed)


@router.delete("/files/{file_id}", dependencies=NO_QUERY)
async def detach(store_id: StoreId, file_id: str, shelf: Shelved) -> StoreFileDeleted:
    """Take a file out of a store; it is kept."""
    await run_in_threadpool(shelf.take_out, store_id, file_id)
    return StoreFileDeleted(id=file_id)


@router.get("/files/{file_id}/content", dependencies=NO_QUERY)
async def attached_text(store_id: StoreId, file_id: str, shelf: Shelved) -> FileTextPage:
    """Give the text that was read of a file: what the places of passages count in."""
    text = await run_in_threadpool(shelf.text_of, store_id, file_id)
    return FileTextPage(data=[FileText(text=text)])


@router.post("/file_batches", dependencies=NO_QUERY)
async def attach_batch(store_id: StoreId, body: BatchRequest, shelf: Shelved) -> FileBatch:
    """Put several files into a store, all or none."""

    def put() -> FileBatch:
        batch = shelf.put(store_id, body.placements, is_batch=True)
        return FileBatch.of(shelf.batch(store_id, batch))

    return await run_in_threadpool(put)


@router.get("/file_batches/{batch_id}", dependencies=NO_QUERY)
async def retrieve_batch(store_id: StoreId, batch_id: str, shelf: Shelved) -> FileBatch:
    """Say how far a batch is."""
    return FileBatch.of(await run_in_threadpool(shelf.batch, store_id, batch_id))


@router.get("/file_batches/{batch_id}/files", dependencies=_LISTED)
async def list_batch(
    store_id: StoreId, batch_id: str, shelf: Shelved, paging: Paged, filter: State | None = None
) -> StoreFileList:
    """List the files of a batch, the newest first."""
    return await run_in_threadpool(_listed, shelf, store_id, paging, filter, batch_id)


def _listed(
    shelf: Shelf, store_id: str, paging: Paging, state: State | None, batch: str | None
) -> StoreFileList:
    files = [one for one in shelf.shelved(store_id, batch) if state in (None, one.state)]
    page = page_of(files, paging)
    return StoreFileList(
        data=[StoreFile.of(one) for one in page.data],
        first_id=page.first_id,
        last_id=page.last_id,
        has_more=page.has_more,
    )
