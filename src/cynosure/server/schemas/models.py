"""Shape `/v1/models`, as OpenAI's clients read it. Computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Model(BaseModel):
    """A model that is loaded; `parent` is vLLM's field, and those behind `owned_by` are our own.

    `capabilities` names the fields that a completion model takes beyond a prompt: conversations (`chat`), a
    `suffix`, `attention`. `parent` names the model that an adapter changes. A demonstration shows what can be
    done with a model, and is of no other use, as its card says.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["local"] = "local"
    kind: Literal["embedding", "completion", "ranking"]
    max_tokens: int | None
    parent: str | None = None
    demonstration: bool = False
    capabilities: list[Literal["chat", "suffix", "attention"]] = []


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]
