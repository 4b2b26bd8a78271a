"""Search the stores of whoever asks, beside the event loop. Knows nothing of how passages are found."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.retrieval.library import FileHit, Filter, Library
from cynosure.server.services import Quote


@dataclass(frozen=True)
class TenantUploads:
    """One tenant's stores."""

    library: Library
    tenant: str

    async def search(
        self, store_id: str, query: str, max_results: int, only: Filter | None = None
    ) -> Sequence[Quote]:
        """As `Shelf.search`, in quotes."""
        asked = self.library.ask(self.tenant, store_id, query, max_results, only)
        return [_quote(hit) for hit in await asyncio.wrap_future(asked)]


def _quote(hit: FileHit) -> Quote:
    return Quote(
        text=hit.text,
        object=hit.name,
        kind=hit.kind,
        signature="",
        start=hit.start,
        end=hit.end,
        score=hit.score,
        similarity=hit.similarity,
        file=hit.filename,
        file_id=hit.file_id,
        attributes=tuple(hit.attributes.items()),
    )
