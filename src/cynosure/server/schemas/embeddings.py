"""Shape `/v1/embeddings`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from cynosure.server.schemas.end_user import EndUserFields
from cynosure.server.schemas.evidence import EvidenceBody, EvidenceParam
from cynosure.server.schemas.wire import Count0, Count1, Text

MAX_INPUTS = 2048

Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
TokenIds = Annotated[list[Count0], Field(min_length=1)]
ManyTokenIds = Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_INPUTS)]


class EmbeddingsRequest(EndUserFields):
    """One or more texts, or their token ids."""

    model: Text
    input: Text | Texts | TokenIds | ManyTokenIds
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count1 | None = None
    attention: EvidenceParam | None = None

    @property
    def items(self) -> list[str | list[int]]:
        """The inputs, one a vector."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[token for token in self.input if isinstance(token, int)]]
        return [item for item in self.input if not isinstance(item, int)]


class Embedding(BaseModel):
    """One vector: numbers, or base64 of its little-endian float32 bytes; what it attended to, if asked."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    attention: EvidenceBody | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told = handler(self)
        if self.attention is None:
            told.pop("attention")
        return told


class EmbeddingsUsage(BaseModel):
    """Tokens read, special ones included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Vectors in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
