"""Shape `/v1/vector_stores`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cynosure.server.schemas.wire import Never, Text, WireRequest

MAX_RESULTS = 50
MAX_QUERIES = 8


class RankingOptions(WireRequest):
    """`auto` and `none` are the same here: there is no second ranker to leave out."""

    ranker: Literal["auto", "none"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class SearchRequest(WireRequest):
    """One query, or several whose results are merged."""

    query: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_QUERIES)]
    max_num_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 10
    filters: None = Field(None, description="not served")
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
    """A passage, quoted verbatim; `attributes` say of what and from where to where."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | int | float]
    content: list[Content]


class SearchPage(BaseModel):
    """All results; there is never a second page."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: Literal[False] = False
    next_page: None = None


class FileCounts(BaseModel):
    """Documented objects by their state."""

    in_progress: int = 0
    completed: int
    failed: int = 0
    cancelled: int = 0
    total: int


class VectorStore(BaseModel):
    """One indexed body of documentation; its files are documented objects."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    name: str
    created_at: int
    status: Literal["completed"] = "completed"
    usage_bytes: int
    file_counts: FileCounts
    metadata: dict[str, str]


class VectorStoreList(BaseModel):
    """All stores, or a part of them."""

    object: Literal["list"] = "list"
    data: list[VectorStore]
    first_id: str | None
    last_id: str | None
    has_more: bool
