"""Say what the server needs to have computed for it. Computes nothing, and knows no model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import NotFound
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat_format import ChatFormat
from cynosure.models.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad

T = TypeVar("T")


@dataclass(frozen=True)
class Attended:
    """Code points `start:end` of a quote's text; `weight` is relative to the most attended word's."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Quote:
    """A verbatim slice of an object's documentation, `start:end` in code points of the whole.

    `score`, from 0 to 1, is what the order is by; `similarity` is the cosine of question and passage.
    """

    text: str
    object: str
    kind: str
    signature: str
    start: int
    end: int
    score: float
    similarity: float
    attended: tuple[Attended, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What was found for a question; `reason` says why where nothing was.

    `confidence` is the best passage's score; below `threshold` no passage is an answer.
    """

    answered: bool
    reason: str
    quotes: tuple[Quote, ...]
    confidence: float
    threshold: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of texts, and how many tokens each text had."""

    vectors: Float32[np.ndarray, "texts dim"]
    token_counts: tuple[int, ...]


class EmbeddingModel(Protocol):
    """Texts to unit vectors."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens one text may have, special tokens included."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """L2-normalised vectors, one a text and in that order; raises `InputTooLong` over `max_tokens`."""
        ...

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text that is read as these tokens; raises `InputError` where there is none."""
        ...


class DocumentStore(Protocol):
    """Documentation that can be asked."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def title(self) -> str:
        """What a person calls it."""
        ...

    @property
    def num_documents(self) -> int:
        """How many documented objects it holds."""
        ...

    @property
    def num_bytes(self) -> int:
        """Its size on disk."""
        ...

    def search(self, query: str, max_results: int) -> Sequence[Quote]:
        """The best passages, at most one an object, best first, whatever their score."""
        ...

    def ask(self, question: str, max_results: int) -> Answer:
        """The best passages with what was attended to in them, or none where nothing fits."""
        ...


@dataclass(frozen=True)
class Token:
    """One token of a continuation; text that is not final yet comes with a later one.

    On the last, `finish_reason` is `stop` or `length`, and `num_cached` of the prompt's tokens were found
    and not computed.
    """

    text: str
    finish_reason: str | None = None
    num_cached: int = 0


class CompletionModel(Protocol):
    """Text to text that follows it."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def max_model_len(self) -> int | None:
        """How many tokens prompt and continuation may have together; `None` where nothing limits them."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns text into its tokens and back."""
        ...

    @property
    def chat(self) -> ChatFormat | None:
        """How it converses; `None` where its checkpoint has no chat template."""
        ...

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a prompt."""
        ...

    @property
    def load(self) -> EngineLoad:
        """How busy its engine is now."""
        ...

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """Have the constraint ready, so that one which is not usable shows while a status can say so."""
        ...

    def complete(
        self, token_ids: Sequence[int], sampling: SamplingParams, tenant: str = ""
    ) -> AsyncGenerator[Token]:
        """Check the prompt at once; then give tokens as they are chosen. Closing it ends the request.

        What is kept of the request serves later ones of the same tenant only. Routes leave `tenant` out:
        their services are bound to who asks (`server/metering.py`).
        """
        ...

    def close(self) -> None:
        """Stop computing; what is under way fails."""
        ...


@dataclass(frozen=True)
class Services:
    """Everything that answers requests, by name."""

    embedders: Mapping[str, EmbeddingModel]
    stores: Mapping[str, DocumentStore]
    completers: Mapping[str, CompletionModel]
    created_at: int

    def embedder(self, name: str) -> EmbeddingModel:
        """An embedding model by name."""
        return _named(self.embedders, name, "embedding model", "/v1/models lists them")

    def close(self) -> None:
        """Stop every model that computes on threads of its own."""
        for completer in self.completers.values():
            completer.close()

    def store(self, name: str) -> DocumentStore:
        """A document store by name."""
        return _named(self.stores, name, "vector store", "/v1/vector_stores lists them")

    def completer(self, name: str) -> CompletionModel:
        """A completion model by name."""
        return _named(self.completers, name, "completion model", "start with --model FOLDER to add one")


def _named(things: Mapping[str, T], name: str, kind: str, remedy: str) -> T:
    if name not in things:
        known = ", ".join(sorted(things)) or "none"
        raise NotFound(f"no {kind} is called {name[:100]!r}; here: {known}. Correct the name: {remedy}.")
    return things[name]
