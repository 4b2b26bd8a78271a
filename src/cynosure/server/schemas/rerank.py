"""Shape `/v1/rerank` and `/v2/rerank`, as clients of Cohere and Jina know them. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

from cynosure.server.schemas.evidence import EvidenceBody, EvidenceParam
from cynosure.server.schemas.wire import Count1, Never, Text, WireRequest, Zero

MAX_DOCUMENTS = 1000

Version: TypeAlias = Literal["1", "2"]

NonEmpty = Annotated[Text, Field(min_length=1)]


class DocumentParam(WireRequest):
    """A document as an object."""

    text: NonEmpty


class RelevantSpans(WireRequest):
    """Spans are not found here."""

    mode: Literal["disabled"]


class RerankRequest(WireRequest):
    """A query and what is to be put in order. Fields with one permitted value are not served otherwise.

    Nothing is truncated: a document that is too long is refused, so that there is no limit to lower.
    """

    model: Text
    query: NonEmpty
    documents: Annotated[list[NonEmpty | DocumentParam], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: Count1 | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: None = None
    max_chunks_per_doc: None = None
    rank_fields: None = None
    truncation: Never | None = None
    relevant_spans: RelevantSpans | None = None
    priority: Zero | None = None
    attention: EvidenceParam | None = None

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [item if isinstance(item, str) else item.text for item in self.documents]


class DocumentBody(BaseModel):
    """A document that was sent."""

    text: str


class RankedDocument(BaseModel):
    """A document by its place in the request; its text, and what was attended to in it, where asked for."""

    index: int
    relevance_score: float
    document: DocumentBody | None = None
    attention: EvidenceBody | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


class ApiVersion(BaseModel):
    """Whose address it was."""

    version: Version


class RerankTokens(BaseModel):
    """Tokens read, special ones included."""

    input_tokens: int
    output_tokens: Literal[0] = 0


class RerankMeta(BaseModel):
    """What Cohere's clients read of the cost; nothing is billed."""

    api_version: ApiVersion
    tokens: RerankTokens


class RerankUsage(BaseModel):
    """What Jina's clients read of the cost."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(BaseModel):
    """Documents, the best first; of two alike, the one that came first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RankedDocument]
    meta: RerankMeta
    usage: RerankUsage
