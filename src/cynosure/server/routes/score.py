"""Serve `/score` and `/v1/score`. Knows nothing of how a pair is scored."""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter, Depends

from cynosure.server.answers.ranking import relevance
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.score import ScoreData, ScoreRequest, ScoreResponse, ScoreUsage

router = APIRouter(tags=["score"], dependencies=[Depends(known_query())])


@router.post("/score", operation_id="create_score")
@router.post("/v1/score", operation_id="create_score_v1")
async def create_score(body: ScoreRequest, services: Ready) -> ScoreResponse:
    """Say how well texts fit texts, pair by pair."""
    found = await relevance(services, body.model, body.pairs)
    return ScoreResponse(
        id=f"score-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        data=[ScoreData(index=index, score=score) for index, score in enumerate(found.scores)],
        usage=ScoreUsage(prompt_tokens=found.num_tokens, total_tokens=found.num_tokens),
    )
