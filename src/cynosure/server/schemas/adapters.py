"""Shape the addresses that load and unload adapters, as vLLM's clients write them. Computes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cynosure.server.schemas.wire import Text, WireRequest

MAX_PATH_CHARS = 4096


class LoadAdapter(WireRequest):
    """Serve an adapter under a name; `base_model_name` is our own, where several models can have it."""

    lora_name: Annotated[Text, Field(min_length=1, max_length=256)]
    lora_path: Annotated[Text, Field(min_length=1, max_length=MAX_PATH_CHARS)]
    base_model_name: Text | None = None


class UnloadAdapter(WireRequest):
    """Serve an adapter no longer."""

    lora_name: Annotated[Text, Field(min_length=1, max_length=256)]
