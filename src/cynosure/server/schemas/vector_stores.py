"""Shape `/v1/vector_stores`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cynosure.retrieval.library import Attribute, KeptStore, Placement
from cynosure.server.schemas.filters import Filters
from cynosure.server.schemas.store_files import MAX_BATCH, Chunking, FileCounts
from cynosure.server.schemas.wire import Metadata, Never, Text, WireRequest

MAX_RESULTS = 50
MAX_QUERIES = 8

StoreName = Annotated[Text, Field(max_length=256)]


class CreateRequest(WireRequest):
    """A store of one's own files; it lasts until it is deleted."""

    name: StoreName | None = None
    description: Annotated[Text, Field(max_length=1024)] | None = None
    file_ids: Annotated[list[Text], Field(max_length=MAX_BATCH)] | None = None
    metadata: Metadata | None = None
    chunking_strategy: Chunking | None = None
    expires_after: None = Field(None, description="not served")

    @property
    def placements(self) -> list[Placement]:
        """What the library is asked."""
        return [Placement(file_id) for file_id in self.file_ids or []]


class ChangeRequest(WireRequest):
    """What is to be different; what is left out stays."""

    name: StoreName | None = None
    metadata: Metadata | None = None
    expires_after: None = Field(None, description="not served")


class RankingOptions(WireRequest):
    """`auto` and `none` are the same here: there is no second ranker to leave out."""

    ranker: Literal["auto", "none"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class SearchRequest(WireRequest):
    """One query, or several whose results are merged."""

    query: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_QUERIES)]
    max_num_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 10
    filters: Filters | None = None
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: Never = False

    @property
    def queries(self) -> list[str]:
        """The queries, one or more."""
        return [self.query] if isinstance(self.query, str) else self.query


class Content(BaseModel):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class SearchResult(BaseModel):
    """A passage, quoted verbatim.

    `attributes` of an uploaded file are its owner's; of the server's own stores they say of what the passage
    is, and from where to where.
    """

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Attribute]
    content: list[Content]


class SearchPage(BaseModel):
    """All results; there is never a second page."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None


class VectorStore(BaseModel):
    """Files that are searched together, or documentation that the server brings along."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    name: str
    description: str = ""
    created_at: int
    last_active_at: int
    status: Literal["in_progress", "completed"] = "completed"
    usage_bytes: int
    file_counts: FileCounts
    metadata: dict[str, str]
    expires_after: None = None
    expires_at: None = None

    @classmethod
    def of(cls, store: KeptStore) -> VectorStore:
        """As clients read it."""
        return cls(
            id=store.id,
            name=store.name,
            description=store.description,
            created_at=store.created_at,
            last_active_at=store.active_at,
            status="in_progress" if store.counts.in_progress else "completed",
            usage_bytes=store.num_bytes,
            file_counts=FileCounts.of(store.counts),
            metadata=dict(store.metadata),
        )


class VectorStoreList(BaseModel):
    """All stores, or a part of them."""

    object: Literal["list"] = "list"
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VectorStoreDeleted(BaseModel):
    """A store that is no more; its files are kept."""

    id: str
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: Literal[True] = True
