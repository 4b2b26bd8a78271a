"""Shape `file_search` of `/v1/responses`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cynosure.retrieval.library import Attribute
from cynosure.server.schemas.filters import Filters, Finite
from cynosure.server.schemas.vector_stores import MAX_QUERIES, MAX_RESULTS
from cynosure.server.schemas.wire import Count0, Text, Whole, WireRequest

MAX_STORES = 8
#: Passages that are given to the model where a request does not say; each has up to some 250 tokens.
DEFAULT_RESULTS = 5

SearchStatus = Literal["in_progress", "searching", "completed", "incomplete", "failed"]


class FileSearchRanking(WireRequest):
    """Below which score nothing is given to the model; there is one ranker."""

    ranker: Literal["auto"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: None = None


class FileSearchTool(WireRequest):
    """Stores that are searched with what the user said last, before the model answers."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Text], Field(min_length=1, max_length=MAX_STORES)]
    max_num_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] | None = None
    filters: Filters | None = None
    ranking_options: FileSearchRanking | None = None

    @property
    def num_results(self) -> int:
        """How many passages are given to the model at most."""
        return self.max_num_results or DEFAULT_RESULTS

    @property
    def threshold(self) -> float:
        """Below which score none is."""
        options = self.ranking_options
        return 0.0 if options is None or options.score_threshold is None else options.score_threshold


class NamedFileSearch(WireRequest):
    """Files must be searched; nothing else is called."""

    type: Literal["file_search"]


class FileCitation(BaseModel):
    """A file that a passage was given of; `index` is the place in the text behind which it is cited."""

    type: Literal["file_citation"] = "file_citation"
    index: int
    file_id: str
    filename: str


class FileSearchResult(BaseModel):
    """A passage that was given to the model, quoted verbatim."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Attribute]
    text: str


class OutputFileSearch(BaseModel):
    """A search that was made; its results are told where they are asked for."""

    id: str
    type: Literal["file_search_call"] = "file_search_call"
    status: SearchStatus
    queries: list[str]
    results: list[FileSearchResult] | None = None


class GivenCitation(WireRequest):
    """A citation that comes back as it was answered."""

    type: Literal["file_citation"]
    index: Count0
    file_id: Text
    filename: Text


class GivenResult(WireRequest):
    """A result that comes back as it was answered."""

    file_id: Text | None = None
    filename: Text | None = None
    score: Finite | None = None
    attributes: dict[Text, Text | bool | Whole | Finite] | None = None
    text: Text | None = None


class FileSearchItem(WireRequest):
    """A search that comes back as it was answered; what it found is not given to the model again."""

    type: Literal["file_search_call"]
    id: Text | None = None
    status: SearchStatus | None = None
    queries: Annotated[list[Text], Field(max_length=MAX_QUERIES)]
    results: Annotated[list[GivenResult], Field(max_length=MAX_RESULTS)] | None = None
