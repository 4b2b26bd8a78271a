"""Hand routes the shelf of whoever asks, and cut lists into pages. Knows no API family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from fastapi import Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import NotFound
from cynosure.retrieval.library import Shelf
from cynosure.server.routes.access import Ready, known_query, visit_of

Order = Literal["asc", "desc"]


class Identified(Protocol):
    """What a list holds."""

    @property
    def id(self) -> str:
        """What clients call it."""
        ...


T = TypeVar("T", bound=Identified)


async def _shelf(request: Request, services: Ready) -> Shelf:
    if services.library is None:
        raise NotFound(
            "this server keeps no files: it was started without its embedder (--without-docs), or another "
            "server has the folder (--files-dir). Start it with both."
        )
    tenant = visit_of(request).tenant
    assert tenant is not None, "nobody was admitted"
    return await run_in_threadpool(services.library.of, tenant)


Shelved = Annotated[Shelf, Depends(_shelf)]

#: For routes that read nothing of the address but its path.
NO_QUERY = [Depends(known_query())]
#: For lists.
PAGED = [Depends(known_query("limit", "order", "after", "before"))]


@dataclass(frozen=True)
class Paging:
    """Which part of a list is asked for."""

    limit: int
    order: Order
    after: str | None
    before: str | None


async def _paging(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Order = "desc",
    after: str | None = None,
    before: str | None = None,
) -> Paging:
    return Paging(limit, order, after, before)


Paged = Annotated[Paging, Depends(_paging)]


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list."""

    data: list[T]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """The first one's id, if there is any."""
        return self.data[0].id if self.data else None

    @property
    def last_id(self) -> str | None:
        """The last one's id, if there is any."""
        return self.data[-1].id if self.data else None


def page_of(everything: Sequence[T], paging: Paging) -> Page[T]:
    """The part that is asked for.

    Args:
        everything: The whole list, the oldest first.
        paging: Which part.

    Raises:
        NotFound: what the part is to stand after or before is not in the list.
    """
    rows = list(everything) if paging.order == "asc" else list(reversed(everything))
    if paging.after is not None:
        rows = rows[_place(rows, paging.after) + 1 :]
    if paging.before is not None:
        # The ones next to it, in the order of the list.
        rows = rows[: _place(rows, paging.before)]
        return Page(rows[-paging.limit :], len(rows) > paging.limit)
    return Page(rows[: paging.limit], len(rows) > paging.limit)


def _place(rows: Sequence[Identified], wanted: str) -> int:
    for place, row in enumerate(rows):
        if row.id == wanted:
            return place
    raise NotFound(f"the list has no {wanted[:100]!r}. Page after or before one that was listed.")
