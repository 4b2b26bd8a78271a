"""Shape `/v1/models`, as OpenAI's clients read it. Computes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Model(BaseModel):
    """A model that is loaded; `kind` and `max_tokens` are our own fields, `parent` is vLLM's.

    `parent` names the model that an adapter changes.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["local"] = "local"
    kind: Literal["embedding", "completion", "ranking"]
    max_tokens: int | None
    parent: str | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]
