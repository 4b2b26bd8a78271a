"""Serve `/v1/vector_stores` and its search. Knows nothing of how passages are found."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import InputError
from cynosure.server.answers.finding import Finding, find
from cynosure.server.routes.access import Ready, visit_of
from cynosure.server.routes.shelf import NO_QUERY, PAGED, Paged, Shelved, page_of
from cynosure.server.schemas.store_files import FileCounts
from cynosure.server.schemas.vector_stores import (
    ChangeRequest,
    Content,
    CreateRequest,
    SearchPage,
    SearchRequest,
    SearchResult,
    VectorStore,
    VectorStoreDeleted,
    VectorStoreList,
)
from cynosure.server.services import DocumentStore, Services

router = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"])


@router.post("", dependencies=NO_QUERY)
async def create_store(body: CreateRequest, shelf: Shelved) -> VectorStore:
    """Make a store; files that are named are indexed beside the answer."""
    made = await run_in_threadpool(
        shelf.add_store, body.name or "", body.description or "", body.metadata or {}, body.placements
    )
    return VectorStore.of(made)


@router.get("", dependencies=PAGED)
async def list_stores(request: Request, services: Ready, paging: Paged) -> VectorStoreList:
    """List the server's own stores and those of whoever asks, the newest first."""
    stores = [_described(store, services.created_at) for _, store in sorted(services.stores.items())]
    tenant = visit_of(request).tenant
    assert tenant is not None, "nobody was admitted"
    if services.library is not None:
        shelf = await run_in_threadpool(services.library.of, tenant)
        stores += [VectorStore.of(store) for store in await run_in_threadpool(shelf.stores)]
    # A stable sort: of one second, the library's order stays.
    page = page_of(sorted(stores, key=lambda store: store.created_at), paging)
    return VectorStoreList(
        data=page.data, first_id=page.first_id, last_id=page.last_id, has_more=page.has_more
    )


@router.get("/{store_id}", dependencies=NO_QUERY)
async def retrieve_store(store_id: str, request: Request, services: Ready) -> VectorStore:
    """Describe one store."""
    if store_id in services.stores or services.library is None:
        return _described(services.store(store_id), services.created_at)
    tenant = visit_of(request).tenant
    assert tenant is not None, "nobody was admitted"
    shelf = await run_in_threadpool(services.library.of, tenant)
    return VectorStore.of(await run_in_threadpool(shelf.store, store_id))


@router.post("/{store_id}", dependencies=NO_QUERY)
async def change_store(store_id: str, body: ChangeRequest, services: Ready, shelf: Shelved) -> VectorStore:
    """Change the name or the metadata of a store of one's own."""
    _refuse_own(store_id, services)
    return VectorStore.of(await run_in_threadpool(shelf.change_store, store_id, body.name, body.metadata))


@router.delete("/{store_id}", dependencies=NO_QUERY)
async def delete_store(store_id: str, services: Ready, shelf: Shelved) -> VectorStoreDeleted:
    """Forget a store of one's own; its files are kept."""
    _refuse_own(store_id, services)
    await run_in_threadpool(shelf.remove_store, store_id)
    return VectorStoreDeleted(id=store_id)


@router.post("/{store_id}/search", dependencies=NO_QUERY)
async def search(store_id: str, body: SearchRequest, services: Ready) -> SearchPage:
    """Find the best passages, best first; several queries keep the best of each object, or part of a file."""
    found = await find(
        services,
        [store_id],
        body.queries,
        body.max_num_results,
        None if body.filters is None else body.filters.filter,
        body.ranking_options.score_threshold,
    )
    return SearchPage(search_query=body.queries, data=[_result(one) for one in found])


def _refuse_own(store_id: str, services: Services) -> None:
    if store_id in services.stores:
        raise InputError(
            f"{store_id} is the server's own and is not changed here. Make a store of your files instead."
        )


def _result(found: Finding) -> SearchResult:
    return SearchResult(
        file_id=found.file_id,
        filename=found.filename,
        score=found.quote.score,
        attributes=found.attributes,
        content=[Content(text=found.quote.text)],
    )


def _described(store: DocumentStore, created_at: int) -> VectorStore:
    return VectorStore(
        id=store.name,
        name=store.title,
        created_at=created_at,
        last_active_at=created_at,
        usage_bytes=store.num_bytes,
        file_counts=FileCounts(completed=store.num_documents, total=store.num_documents),
        metadata={},
    )
