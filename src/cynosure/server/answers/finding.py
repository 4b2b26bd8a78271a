"""Find passages in vector stores, the server's own and those of whoever asks. Knows no protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.core.errors import InputError
from cynosure.retrieval.library import Attribute, Filter
from cynosure.server.services import Quote, Services


@dataclass(frozen=True)
class Finding:
    """A passage, and the store that it is from."""

    store_id: str
    quote: Quote

    @property
    def file_id(self) -> str:
        """The file, or what stands for one in a store of the server's own."""
        return self.quote.file_id or f"{self.store_id}:{self.quote.object}"

    @property
    def filename(self) -> str:
        """What the file is called."""
        return self.quote.file or self.quote.object

    @property
    def attributes(self) -> dict[str, Attribute]:
        """What its owner says of a file; in a store of the server's own, what the passage is."""
        quote = self.quote
        if quote.file_id:
            return dict(quote.attributes)
        return {
            "object": quote.object,
            "kind": quote.kind,
            "signature": quote.signature,
            "start": quote.start,
            "end": quote.end,
            "similarity": quote.similarity,
            "source": "file" if quote.file else quote.source,
            "author": "retriever",
        }


async def find(
    services: Services,
    store_ids: Sequence[str],
    queries: Sequence[str],
    max_results: int,
    only: Filter | None = None,
    threshold: float = 0.0,
) -> list[Finding]:
    """The best passages of all stores for any query, best first; each object or part of a file once.

    Raises:
        NotFound: there is no such store.
        InputError: a query can't be asked, or a store of the server's own is to be filtered.
    """
    best: dict[tuple[str, str, str], Finding] = {}
    for store_id in dict.fromkeys(store_ids):
        for query in queries:
            for quote in await _search(services, store_id, query, max_results, only):
                key = (store_id, quote.file_id, quote.object)
                if key not in best or best[key].quote.score < quote.score:
                    best[key] = Finding(store_id, quote)
    ranked = sorted(best.values(), key=lambda found: -found.quote.score)
    return [found for found in ranked if found.quote.score >= threshold][:max_results]


async def _search(
    services: Services, store_id: str, query: str, max_results: int, only: Filter | None
) -> Sequence[Quote]:
    # Where nobody's files are kept, a store is one of the server's own or none.
    if store_id in services.stores or services.uploads is None:
        store = services.store(store_id)
        if only is not None:
            raise InputError(
                f"{store_id} is the server's own, and has no attributes to filter by. Leave filters out."
            )
        return await store.search(query, max_results)
    return await services.uploads.search(store_id, query, max_results, only)
