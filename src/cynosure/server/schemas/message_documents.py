"""Shape documents in `/v1/messages` and what cites them, as Anthropic's clients do. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from cynosure.models.chat.prompt import CallerText
from cynosure.server.schemas.grounding import DOCUMENT
from cynosure.server.schemas.wire import NoPicture, Text, WireRequest

MAX_BLOCKS = 256

#: What segments call title and context of a document: its text too, for whoever weighs trust.
ABOUT = "document"

#: What an answer cited, which comes back with it; nobody reads it.
PastCitations: TypeAlias = Annotated[list[dict[str, Any]], Field(max_length=4096)] | None


class CacheControl(WireRequest):
    """Asks that what was read so far be kept; it is anyway, as long as memory lasts: no time is promised."""

    type: Literal["ephemeral"]
    ttl: None = None


class TextBlock(WireRequest):
    """A piece of what is said."""

    type: Literal["text"]
    text: Text
    citations: PastCitations = None
    cache_control: CacheControl | None = None


class PlainText(WireRequest):
    """A document that is one text, of which sentences are cited."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: Annotated[Text, Field(min_length=1)]


class TextBlocks(WireRequest):
    """A document in blocks, which are cited whole; one string is one block."""

    type: Literal["content"]
    content: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[TextBlock, NoPicture]], Field(min_length=1, max_length=MAX_BLOCKS)]
    )


class CitationsConfig(WireRequest):
    """Whether the answer is to cite a document."""

    enabled: bool


class DocumentBlock(WireRequest):
    """A document to answer from; `title` and `context` are read before it, and are not cited."""

    type: Literal["document"]
    source: Annotated[PlainText | TextBlocks, Field(discriminator="type")]
    title: Annotated[Text, Field(min_length=1, max_length=500)] | None = None
    context: Annotated[Text, Field(min_length=1)] | None = None
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None

    def texts(self, where: str) -> Iterator[CallerText]:
        """What is read of it, in order."""
        for name, text in (("title", self.title), ("context", self.context)):
            if text is not None:
                yield CallerText(text, f"{where}.{name}")
        for place, text in enumerate(self.blocks):
            yield CallerText(text, f"{where}.source[{place}]")

    @property
    def blocks(self) -> list[str]:
        """The texts that can be cited."""
        if isinstance(self.source, PlainText):
            return [self.source.data]
        content = self.source.content
        return [content] if isinstance(content, str) else [block.text for block in content]

    @property
    def is_cited(self) -> bool:
        """Whether the answer is to cite it."""
        return self.citations is not None and self.citations.enabled

    def names(self, where: str, number: int) -> dict[str, str]:
        """What segments call its texts, by their paths."""
        named = {f"{where}.source[{place}]": f"{DOCUMENT}:{number}" for place in range(len(self.blocks))}
        about = {f"{where}.{name}": f"{ABOUT}:{number}" for name in ("title", "context")}
        return named | about


class CharLocation(BaseModel):
    """Code points of a document that is one text, counted among the documents of the request."""

    type: Literal["char_location"] = "char_location"
    cited_text: str
    document_index: int
    document_title: str | None
    start_char_index: int
    end_char_index: int
    file_id: None = None


class BlockLocation(BaseModel):
    """A block of a document."""

    type: Literal["content_block_location"] = "content_block_location"
    cited_text: str
    document_index: int
    document_title: str | None
    start_block_index: int
    end_block_index: int
    file_id: None = None


Location: TypeAlias = CharLocation | BlockLocation
