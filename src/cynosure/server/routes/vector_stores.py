"""Serve `/v1/vector_stores` and its search. Knows nothing of how passages are found."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query

from cynosure.core.errors import NotFound
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.vector_stores import (
    Content,
    FileCounts,
    SearchPage,
    SearchRequest,
    SearchResult,
    VectorStore,
    VectorStoreList,
)
from cynosure.server.services import DocumentStore, Quote

router = APIRouter(prefix="/v1/vector_stores", tags=["vector stores"])

NO_QUERY = [Depends(known_query())]


@router.get("", dependencies=[Depends(known_query("limit", "order", "after"))])
async def list_stores(
    services: Ready,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> VectorStoreList:
    """List the stores, by name."""
    names = sorted(services.stores, reverse=order == "desc")
    if after is not None:
        if after not in names:
            raise NotFound(f"no vector store is called {after[:100]!r}. Page after one that was listed.")
        names = names[names.index(after) + 1 :]
    data = [_described(services.store(name), services.created_at) for name in names[:limit]]
    return VectorStoreList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(names) > limit,
    )


@router.get("/{name}", dependencies=NO_QUERY)
async def retrieve_store(name: str, services: Ready) -> VectorStore:
    """Describe one store."""
    return _described(services.store(name), services.created_at)


@router.post("/{name}/search", dependencies=NO_QUERY)
async def search(name: str, body: SearchRequest, services: Ready) -> SearchPage:
    """Find the best passages, one an object, best first; several queries keep each object's best."""
    store = services.store(name)
    best: dict[str, Quote] = {}
    for query in body.queries:
        for quote in await store.search(query, body.max_num_results):
            if quote.object not in best or best[quote.object].score < quote.score:
                best[quote.object] = quote
    ranked = sorted(best.values(), key=lambda quote: -quote.score)
    kept = [quote for quote in ranked if quote.score >= body.ranking_options.score_threshold]
    results = [_result(store, quote) for quote in kept[: body.max_num_results]]
    return SearchPage(search_query=body.queries, data=results)


def _result(store: DocumentStore, quote: Quote) -> SearchResult:
    return SearchResult(
        file_id=f"{store.name}:{quote.object}",
        filename=quote.file or quote.object,
        score=quote.score,
        attributes={
            "object": quote.object,
            "kind": quote.kind,
            "signature": quote.signature,
            "start": quote.start,
            "end": quote.end,
            "similarity": quote.similarity,
            "author": "retriever",
        },
        content=[Content(text=quote.text)],
    )


def _described(store: DocumentStore, created_at: int) -> VectorStore:
    return VectorStore(
        id=store.name,
        name=store.title,
        created_at=created_at,
        usage_bytes=store.num_bytes,
        file_counts=FileCounts(completed=store.num_documents, total=store.num_documents),
        metadata={},
    )
