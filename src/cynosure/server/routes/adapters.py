"""Serve `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, for the operator. Loads nothing itself."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse

from cynosure.core.errors import InputError
from cynosure.server.adapters import ModelAdapters
from cynosure.server.routes.access import Ready, admin_only, known_query
from cynosure.server.schemas.adapters import LoadAdapter, UnloadAdapter
from cynosure.server.services import Services

router = APIRouter(tags=["adapters"], dependencies=[Depends(admin_only), Depends(known_query())])


@router.post("/v1/load_lora_adapter", response_class=PlainTextResponse)
async def load_adapter(body: LoadAdapter, services: Ready) -> PlainTextResponse:
    """Load an adapter from a folder of the server's machine, and serve it as a model; for an admin's key."""
    await _adapters(services).load(body.lora_name, body.lora_path, body.base_model_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


@router.post("/v1/unload_lora_adapter", response_class=PlainTextResponse)
async def unload_adapter(body: UnloadAdapter, services: Ready) -> PlainTextResponse:
    """Serve an adapter no longer; answers once the requests under way with it have ended."""
    await _adapters(services).unload(body.lora_name)
    return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _adapters(services: Services) -> ModelAdapters:
    if services.adapters is None:
        raise InputError("this server takes no adapters. Start it with --enable-lora.")
    return services.adapters
