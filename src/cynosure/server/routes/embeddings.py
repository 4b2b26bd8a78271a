"""Serve `/v1/embeddings`. Knows nothing of how a text becomes a vector."""

from __future__ import annotations

import base64

import numpy as np
from fastapi import APIRouter, Depends, Request
from jaxtyping import Float32

from cynosure.core.errors import UnknownOption
from cynosure.server.answers.evidence import INPUTS, check_few, evidence_of_vectors
from cynosure.server.routes.access import Ready, known_query, note_end_user
from cynosure.server.schemas.embeddings import (
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EmbeddingsUsage,
)

router = APIRouter(tags=["embeddings"], dependencies=[Depends(known_query())])

#: Texts that are asked for at once, so that other requests come in between.
TEXTS_PER_JOB = 64


@router.post("/v1/embeddings")
async def create_embeddings(body: EmbeddingsRequest, request: Request, services: Ready) -> EmbeddingsResponse:
    """Turn texts into vectors of length 1."""
    note_end_user(request, body.end_user)
    model = services.embedder(body.model)
    if body.dimensions not in (None, model.dim):
        raise UnknownOption(
            f"dimensions is {body.dimensions}; {model.name} gives {model.dim} and is not trained to be cut. "
            f"Leave it out, or send {model.dim}."
        )
    watched = body.attention is not None and body.attention.level != "off"
    if watched:
        check_few(len(body.items), *INPUTS)
    vectors: list[Float32[np.ndarray, " dim"]] = []
    num_tokens = 0
    for start in range(0, len(body.items), TEXTS_PER_JOB):
        part = body.items[start : start + TEXTS_PER_JOB]
        found = await model.embed([item if isinstance(item, str) else model.text_of(item) for item in part])
        vectors += list(found.vectors)
        num_tokens += sum(found.token_counts)
        if await request.is_disconnected():
            break
    texts = [item if isinstance(item, str) else model.text_of(item) for item in body.items[: len(vectors)]]
    told = await evidence_of_vectors(model, texts) if watched else [None] * len(vectors)
    data = [
        Embedding(index=index, embedding=_written(vector, body.encoding_format), attention=evidence)
        for index, (vector, evidence) in enumerate(zip(vectors, told, strict=True))
    ]
    usage = EmbeddingsUsage(prompt_tokens=num_tokens, total_tokens=num_tokens)
    return EmbeddingsResponse(data=data, model=model.name, usage=usage)


def _written(vector: Float32[np.ndarray, " dim"], encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector.tolist()
