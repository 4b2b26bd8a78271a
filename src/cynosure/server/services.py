"""Say what the server needs to have computed for it. Computes nothing, and knows no model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import NotFound
from cynosure.engine.page_selection import PageSelection
from cynosure.engine.report import RequestReport
from cynosure.engine.request import TokenLogprob
from cynosure.engine.sampling import SamplingParams
from cynosure.engine.session import Session
from cynosure.engine.watch import AttendedTo, BiasRun, Watchable, WatchSpec
from cynosure.insight import Evidence, Reading, ReportSink, WatchPolicy
from cynosure.models.chat.format import ChatFormat
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.retrieval.library import Attribute, Filter, Library
from cynosure.server.adapters import ModelAdapters

T = TypeVar("T")


@dataclass(frozen=True)
class Attended:
    """Code points `start:end` of a quote's text; `weight` is relative to the most attended word's."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Highlight:
    """Code points `start:end` of a quote's text: the sentence, item or example that answers."""

    start: int
    end: int


@dataclass(frozen=True)
class Quote:
    """A verbatim slice of an object's documentation, `start:end` in code points of the whole.

    `score`, from 0 to 1, is what the order is by; `similarity` is the cosine of question and passage.
    Where the object is a part of a file, `file` is its name, and `start:end` count in the file's text.
    `source` says which text of an object it is: its `docstring`, or what the `reference` says of it. Where a
    ranker read its sentences, `highlight` is the one that answers best.
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
    file: str = ""
    file_id: str = ""
    attributes: tuple[tuple[str, Attribute], ...] = ()
    source: str = "docstring"
    highlight: Highlight | None = None


@dataclass(frozen=True)
class SourcePlace:
    """Where a quote stands: code points `start:end` of the `source` text of an object, or of `file`."""

    object: str
    start: int
    end: int
    source: str = "docstring"
    file: str = ""


@dataclass(frozen=True)
class SourceText:
    """The whole text around a quote, which is `text[start:end]` of it.

    `first` is the place of the text's first character in what the quote's own places count in.
    """

    object: str
    kind: str
    signature: str
    text: str
    start: int
    end: int
    first: int = 0
    source: str = "docstring"
    file: str = ""


@dataclass(frozen=True)
class Answer:
    """What was found for a question; `reason` says why where nothing was.

    `confidence`, from 0 to 1, is the chance that what was found answers, or without a ranker the best
    passage's score; below `threshold` there is no answer.
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

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        """L2-normalised vectors, one a text and in that order; raises `InputTooLong` over `max_tokens`."""
        ...

    async def attended(self, text: str, tenant: str = "") -> Evidence:
        """The words of a text that it attends to when it makes its vector; raises as `embed` does."""
        ...

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text that is read as these tokens; raises `InputError` where there is none."""
        ...


class ScoreKind(Enum):
    """What a ranking model's logits mean, as its checkpoint says.

    `SHARES`: labels that exclude each other (softmax). `CHANCES`: each by itself (sigmoid). `NUMBERS`: as
    they are.
    """

    SHARES = "softmax"
    CHANCES = "sigmoid"
    NUMBERS = "identity"


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits of a ranking model, a row a reading, and how many tokens each had."""

    logits: Float32[np.ndarray, "n labels"]
    token_counts: tuple[int, ...]


class RankingModel(Protocol):
    """Texts, read together, to numbers: a cross-encoder gives one, a classifier one a label."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What each number is of."""
        ...

    @property
    def kind(self) -> ScoreKind:
        """What the logits mean."""
        ...

    @property
    def max_tokens(self) -> int:
        """How many tokens one reading may have, special tokens included."""
        ...

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        """Logits, a row a reading and in that order; a reading is a pair (query, passage), or one text.

        Routes leave `tenant` out, as for `CompletionModel.complete`.

        Raises:
            EmptyInput: a text is nothing but white space.
            InputTooLong: a reading has more than `max_tokens` tokens; nothing is truncated.
        """
        ...

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        """The words of a text that it attends to from a query read with it; raises as `score` does.

        Raises:
            InputError: it reads texts apart.
        """
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

    async def search(self, query: str, max_results: int) -> Sequence[Quote]:
        """The best passages, at most one an object, best first, whatever their score."""
        ...

    async def ask(self, question: str, max_results: int) -> Answer:
        """The best passages with what was attended to in them, or none where nothing fits."""
        ...

    async def source(self, place: SourcePlace) -> SourceText:
        """The text that a quote is a slice of; raises `NotFound` where no text holds the place."""
        ...


@dataclass(frozen=True)
class Generation:
    """What a route asks of a completion model: one sequence to continue.

    - `priority`: lower goes first.
    - `deadline_ms`: within how many milliseconds the whole answer is due; one that can't be is refused.
    - `is_reproducible`: bitwise the answer that it gets alone, whatever the batch.
    - `segments`: the segment of each token of the prompt; runs of dense integers, sorted.
    - `skips_special`: whether control tokens give no text; the token that ends an answer never does.
    - `session`: whose next request will find the pages of this one.
    - `speculation`: whether tokens are guessed ahead, which changes none; None leaves it to the engine.
    - `group`: sequences of one name share the pages of what they read, though none are kept.
    - `watch`, `bias`: whose attention is told with each token, and what is added to the prompt's scores.
    - `reading`: what the watched segments and heads are, for whoever is told of the answer when it ends.
    - `page_selection`: how many pages generated tokens attend to; None: all.
    - `is_sibling`: whether a sequence of the same request has the same prompt, which is paid for once.
    - `is_background`: tokens are scored while nobody else is served; `bias_from`: the first whose query the
      bias holds for. Both are for the server's own account.
    - `on_report`: told once how the sequence went through the engine, also where nobody waits for its end.
    """

    token_ids: tuple[int, ...]
    sampling: SamplingParams
    priority: int = 0
    deadline_ms: int | None = None
    is_reproducible: bool = False
    segments: tuple[int, ...] | None = None
    skips_special: bool = True
    is_sibling: bool = False
    session: Session | None = None
    speculation: bool | None = None
    group: str | None = None
    watch: WatchSpec | None = None
    bias: tuple[BiasRun, ...] = ()
    reading: Reading | None = field(default=None, compare=False)
    page_selection: PageSelection | None = None
    is_background: bool = False
    bias_from: int = 0
    on_report: Callable[[RequestReport], None] | None = field(default=None, compare=False)


class ScoredToken(NamedTuple):
    """A token of a prompt, how likely it was, and the likeliest at its place."""

    token: TokenLogprob
    top: tuple[TokenLogprob, ...]


@dataclass(frozen=True)
class Token:
    """One token of a continuation; text that is not final yet comes with a later one.

    - `token_id`: None where no token stands behind it: the rest of a text, or its end alone.
    - `finish_reason`: on the last, `stop` or `length`; or `content_filter`, where a policy ended it.
    - `num_cached`: how many of the prompt's tokens were found and not computed; on the last at least.
    - `logprob`, `top_logprobs`: the model's own, in nats, where the sampling asked for them.
    - `prompt_logprobs`: where asked for, on the first: tokens of the prompt from where they are asked on.
    - `attended`: what the query that chose it attended to, where this token is watched.
    """

    text: str
    finish_reason: str | None = None
    num_cached: int = 0
    token_id: int | None = None
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[ScoredToken, ...] = ()
    attended: AttendedTo | None = None


#: Tokens as they are chosen. Those that came together are given together, and may leave together. They are
#: read in order, once, and only as far as they are wanted: whoever counts them counts what was read.
Tokens: TypeAlias = AsyncGenerator[Iterable[Token]]


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
    def watchable(self) -> Watchable | None:
        """The heads whose attention can be told; `None` where none can."""
        ...

    @property
    def watching(self) -> WatchPolicy:
        """Which heads tell most, where a profile says so, and whether every request is watched."""
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

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """Check the prompt at once; then give tokens as they are chosen. Closing it ends the request.

        What is kept of the request serves later ones of the same tenant only. Routes leave `tenant` out:
        their services are bound to who asks (`server/records/metering.py`).
        """
        ...

    def close(self) -> None:
        """Stop computing; what is under way fails."""
        ...


class UploadedStores(Protocol):
    """The vector stores that whoever asks has made of his files."""

    async def search(
        self, store_id: str, query: str, max_results: int, only: Filter | None = None
    ) -> Sequence[Quote]:
        """The best passages of the files that a filter admits, best first, whatever their score.

        Raises:
            NotFound: he has no such store.
        """
        ...


class EngineProcess(Protocol):
    """The process that computes, whichever it is at the moment."""

    @property
    def is_up(self) -> bool:
        """Whether requests are taken."""
        ...

    @property
    def stage(self) -> str:
        """What a start is at, where it is not up."""
        ...

    @property
    def num_restarts(self) -> int:
        """How often it was started again."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True)
class Services:
    """Everything that answers requests, by name; `engine` is None where models compute in this process.

    `adapters` are among the completers by names of their own; None where none are taken. `demonstrations`
    name the models whose cards say that they show a feature, and are of no other use. `report_sinks` are told
    of every answer whose attention was watched. `library` keeps everybody's files, or is None where none are
    taken; `uploads` are those of whoever asks, and None until somebody does.
    """

    embedders: Mapping[str, EmbeddingModel]
    stores: Mapping[str, DocumentStore]
    completers: Mapping[str, CompletionModel]
    created_at: int
    rankers: Mapping[str, RankingModel] = field(default_factory=dict)
    engine: EngineProcess | None = None
    adapters: ModelAdapters | None = None
    demonstrations: frozenset[str] = frozenset()
    report_sinks: tuple[ReportSink, ...] = ()
    library: Library | None = None
    uploads: UploadedStores | None = None

    def embedder(self, name: str) -> EmbeddingModel:
        """An embedding model by name."""
        return _named(self.embedders, name, "embedding model", "/v1/models lists them")

    def close(self) -> None:
        """Stop every model that computes on threads of its own."""
        # Before the engine ends: what is being indexed is given up, and has not failed.
        if self.library is not None:
            self.library.close()
        for completer in self.completers.values():
            completer.close()
        if self.engine is not None:
            self.engine.close()

    def ranker(self, name: str) -> RankingModel:
        """A ranking model by name."""
        return _named(self.rankers, name, "ranking model", "/v1/models lists them")

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
