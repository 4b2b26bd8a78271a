"""Shape `/v1/ask/source`, which shows the whole text that a quote is a slice of. Computes nothing."""

from __future__ import annotations

from pydantic import BaseModel

from cynosure.server.schemas.ask import Source, source_of
from cynosure.server.services import SourceText


class SourceBody(BaseModel):
    """A text, word for word: the quote is code points `start:end` of it.

    `first` is where its own first character stands: a quote's `start` is `first + start` where nothing of the
    text had to be hidden.
    """

    store: str
    object: str
    kind: str
    signature: str
    source: Source
    file: str
    text: str
    start: int
    end: int
    first: int

    @classmethod
    def of(cls, found: SourceText, store: str) -> SourceBody:
        """The text as it travels."""
        return cls(
            store=store,
            object=found.object,
            kind=found.kind,
            signature=found.signature,
            source=source_of(found.source, found.file),
            file=found.file,
            text=found.text,
            start=found.start,
            end=found.end,
            first=found.first,
        )
