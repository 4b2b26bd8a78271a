"""Serve `/v1/models`. Computes nothing."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Depends

from cynosure.core.errors import NotFound
from cynosure.models.fill_in import form_of
from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.models import Model, ModelList
from cynosure.server.services import CompletionModel, Services

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[Depends(known_query())])


@router.get("")
async def list_models(services: Ready) -> ModelList:
    """List what is loaded."""
    return ModelList(data=_models(services))


@router.get("/{name:path}")
async def retrieve_model(name: str, services: Ready) -> Model:
    """Describe one model."""
    for model in _models(services):
        if model.id == name:
            return model
    raise NotFound(f"no model is called {name[:100]!r}. /v1/models lists them.")


def _models(services: Services) -> list[Model]:
    created = services.created_at
    parents = {} if services.adapters is None else services.adapters.parents
    embedders = [
        Model(id=name, created=created, kind="embedding", max_tokens=model.max_tokens)
        for name, model in services.embedders.items()
    ]
    completers = [
        Model(
            id=name,
            created=created,
            kind="completion",
            max_tokens=model.max_model_len,
            parent=parents.get(name),
            demonstration=name in services.demonstrations,
            capabilities=_capabilities(model),
        )
        for name, model in services.completers.items()
    ]
    rankers = [
        Model(id=name, created=created, kind="ranking", max_tokens=model.max_tokens)
        for name, model in services.rankers.items()
    ]
    return embedders + completers + rankers


def _capabilities(model: CompletionModel) -> list[Literal["chat", "suffix", "attention"]]:
    found: list[Literal["chat", "suffix", "attention"]] = []
    if model.chat is not None:
        found.append("chat")
    if form_of(model.tokenizer) is not None:
        found.append("suffix")
    if model.watchable is not None:
        found.append("attention")
    return found
