"""Serve `/v1/ask/source`: the text around a quote. Knows nothing of how passages are found."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from cynosure.server.routes.access import Ready, known_query
from cynosure.server.schemas.ask import Source
from cynosure.server.schemas.sources import SourceBody
from cynosure.server.services import SourcePlace

#: No text that is indexed is longer, and no field holds more.
MAX_PLACE = 2**31 - 1
MAX_NAME = 1000

Place = Annotated[int, Query(ge=0, le=MAX_PLACE)]
Name = Annotated[str, Query(max_length=MAX_NAME)]

router = APIRouter(tags=["ask"])
FIELDS = ("store", "object", "start", "end", "source", "file")


@router.get("/v1/ask/source", dependencies=[Depends(known_query(*FIELDS))])
async def read_source(
    services: Ready,
    store: Name,
    object: Name,
    start: Place,
    end: Place,
    source: Source = "docstring",
    file: Name = "",
) -> SourceBody:
    """Show the whole text that a quote is a slice of, by the fields of the quote."""
    asked = services.store(store)
    found = await asked.source(SourcePlace(object, start, end, source, file))
    return SourceBody.of(found, asked.name)
