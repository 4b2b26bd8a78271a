"""Serve `/v1/rerank` and `/v2/rerank`. Knows nothing of how a passage is scored."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Depends

from cynosure.server.answers.evidence import RANKED, check_few, evidence_of_ranks
from cynosure.server.answers.ranking import relevance
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.rerank import (
    ApiVersion,
    DocumentBody,
    RankedDocument,
    RerankMeta,
    RerankRequest,
    RerankResponse,
    RerankTokens,
    RerankUsage,
    Version,
)
from cynosure.server.services import Services

router = APIRouter(tags=["rerank"], dependencies=[Depends(known_query())])


@router.post("/v1/rerank")
async def rerank(body: RerankRequest, services: Ready) -> RerankResponse:
    """Put documents in the order of how well they fit a query, in Jina's words and Cohere's older ones."""
    return await _ranked(body, services, "1")


@router.post("/v2/rerank")
async def rerank_v2(body: RerankRequest, services: Ready) -> RerankResponse:
    """Put documents in the order of how well they fit a query, in Cohere's words."""
    return await _ranked(body, services, "2")


async def _ranked(body: RerankRequest, services: Services, version: Version) -> RerankResponse:
    texts = body.texts
    is_watched = body.attention is not None and body.attention.level != "off"
    if is_watched:
        check_few(min(len(texts), body.top_n or len(texts)), *RANKED)
    found = await relevance(services, body.model, [(body.query, text) for text in texts])
    order = sorted(range(len(texts)), key=lambda index: -found.scores[index])[: body.top_n]
    results = [RankedDocument(index=index, relevance_score=found.scores[index]) for index in order]
    if is_watched:
        ranked = [texts[index] for index in order]
        told = await evidence_of_ranks(services, body.model, body.query, ranked)
        for result, evidence in zip(results, told, strict=True):
            result.attention = evidence
    if body.return_documents:
        for result in results:
            result.document = DocumentBody(text=texts[result.index])
    return RerankResponse(
        id=f"rerank-{uuid.uuid4().hex}",
        model=body.model,
        results=results,
        meta=RerankMeta(
            api_version=ApiVersion(version=version), tokens=RerankTokens(input_tokens=found.num_tokens)
        ),
        usage=RerankUsage(prompt_tokens=found.num_tokens, total_tokens=found.num_tokens),
    )
