"""Hand a request the services behind the guard: what they read and what they say. Computes nothing.

A route gets its services so, and can neither forget the guard nor go around it. The guard stands before the
meter: what is blocked is not paid for, and what was computed is, though it is not shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import InputError, NotFound
from cynosure.engine.constraints import Constraint, ConstraintKind
from cynosure.engine.sampling import SamplingParams
from cynosure.guard import Action, Places, Policy
from cynosure.insight import Evidence
from cynosure.insight.focus_rule import FocusRule
from cynosure.models.chat.format import ChatFormat
from cynosure.retrieval.library import Filter
from cynosure.server.guarded.prompt import GuardedPrompts
from cynosure.server.guarded.screening import OUTPUT, Screening
from cynosure.server.guarded.tokens import TokenFilter
from cynosure.server.services import (
    Answer,
    Attended,
    CompletionModel,
    DocumentStore,
    EmbeddingModel,
    Generation,
    Highlight,
    Quote,
    RankingModel,
    Scores,
    Services,
    SourcePlace,
    SourceText,
    Token,
    Tokens,
    UploadedStores,
    Vectors,
)
from cynosure.server.stand_in import StandIn
from cynosure.server.visit import Visit

ANSWER = "answer"


def guarded(services: Services, visit: Visit, policy: Policy) -> Services:
    """The same services, for one request."""
    screening = Screening(policy, visit)
    embedders: dict[str, EmbeddingModel] = {
        name: GuardedEmbedder(model, screening) for name, model in services.embedders.items()
    }
    rankers: dict[str, RankingModel] = {
        name: GuardedRanker(model, screening) for name, model in services.rankers.items()
    }
    stores: dict[str, DocumentStore] = {
        name: GuardedStore(store, screening) for name, store in services.stores.items()
    }
    completers: dict[str, CompletionModel] = {
        name: GuardedCompleter(model, screening) for name, model in services.completers.items()
    }
    uploads = None if services.uploads is None else GuardedUploads(services.uploads, screening)
    return replace(
        services,
        embedders=embedders,
        rankers=rankers,
        stores=stores,
        completers=completers,
        uploads=uploads,
    )


class GuardedEmbedder:
    """An embedding model that reads what the policy lets through."""

    def __init__(self, model: EmbeddingModel, screening: Screening) -> None:
        """Stand before a model."""
        self.name = model.name
        self.dim = model.dim
        self.max_tokens = model.max_tokens
        self._model = model
        self._screening = screening

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        """As the model does."""
        return await self._model.embed(await self._screening.inputs(texts, "input"), tenant)

    async def attended(self, text: str, tenant: str = "") -> Evidence:
        """As the model does, of a text that the policy leaves as it is."""
        return await self._model.attended(await _unchanged(self._screening, text), tenant)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """As the model does; the text is read by `embed`."""
        return self._model.text_of(token_ids)


class GuardedRanker:
    """A ranking model that reads what the policy lets through."""

    def __init__(self, model: RankingModel, screening: Screening) -> None:
        """Stand before a model."""
        self.name = model.name
        self.labels = model.labels
        self.kind = model.kind
        self.max_tokens = model.max_tokens
        self._model = model
        self._screening = screening

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        """As the model does; a query that stands in many readings is decided on once."""
        texts = list(dict.fromkeys(text for reading in readings for text in reading))
        shown = dict(zip(texts, await self._screening.inputs(texts, "input"), strict=True))
        return await self._model.score(
            [tuple(shown[text] for text in reading) for reading in readings], tenant
        )

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        """As the model does, of a text that the policy leaves as it is."""
        (asked,) = await self._screening.inputs([query], "input")
        return await self._model.attended(asked, await _unchanged(self._screening, text), tenant)


async def _unchanged(screening: Screening, text: str) -> str:
    """The text; what was attended to is told by places in it, and they are the caller's own."""
    (shown,) = await screening.inputs([text], "input")
    if shown != text:
        raise InputError(
            "attention is told by places in a text, and this server's policy changed the text. Leave "
            "attention out."
        )
    return shown


class GuardedStore:
    """Documentation whose quotes are shown as the policy for what is fetched says."""

    def __init__(self, store: DocumentStore, screening: Screening) -> None:
        """Stand before a store."""
        self.name = store.name
        self.title = store.title
        self.num_documents = store.num_documents
        self.num_bytes = store.num_bytes
        self._store = store
        self._screening = screening

    async def search(self, query: str, max_results: int) -> Sequence[Quote]:
        """As the store does; a quote that holds what is blocked is left out."""
        (asked,) = await self._screening.inputs([query], "query")
        return _shown(await self._store.search(asked, max_results), self._screening)

    async def ask(self, question: str, max_results: int) -> Answer:
        """As the store does; a quote that holds what is blocked is left out."""
        (asked,) = await self._screening.inputs([question], "question")
        answer = await self._store.ask(asked, max_results)
        quotes = _shown(answer.quotes, self._screening)
        if answer.answered and not quotes:
            reason = "What was found may not be shown: this server's policy blocks it."
            return replace(answer, answered=False, reason=reason, quotes=())
        return replace(answer, quotes=tuple(quotes))

    async def source(self, place: SourcePlace) -> SourceText:
        """As the store does.

        Raises:
            NotFound: it holds what may not be shown.
        """
        found = await self._store.source(place)
        text = self._screening.retrieved(found.text, found.object)
        signature = self._screening.retrieved(found.signature, found.object)
        if Action.BLOCK in (text.action, signature.action):
            raise NotFound(
                f"this text of {found.object[:100]!r} may not be shown: this server's policy blocks it."
            )
        start, end = Places(text.findings).shown((found.start, found.end))
        return replace(found, text=text.text, signature=signature.text, start=start, end=end)


class GuardedUploads:
    """Uploaded files, whose quotes are shown as the policy for what is fetched says."""

    def __init__(self, stores: UploadedStores, screening: Screening) -> None:
        """Stand before the stores of whoever asks."""
        self._stores = stores
        self._screening = screening

    async def search(
        self, store_id: str, query: str, max_results: int, only: Filter | None = None
    ) -> Sequence[Quote]:
        """As the store does; a quote that holds what is blocked is left out."""
        (asked,) = await self._screening.inputs([query], "query")
        return _shown(await self._stores.search(store_id, asked, max_results, only), self._screening)


def _shown(quotes: Sequence[Quote], screening: Screening) -> list[Quote]:
    return [shown for quote in quotes if (shown := _quote(quote, screening)) is not None]


def _quote(quote: Quote, screening: Screening) -> Quote | None:
    text = screening.retrieved(quote.text, quote.object)
    signature = screening.retrieved(quote.signature, quote.object)
    # Names of a caller's own files and headings may hold anything, unlike those of documented objects.
    name = screening.retrieved(quote.object, "object")
    file = screening.retrieved(quote.file, "file")
    if Action.BLOCK in (text.action, signature.action, name.action, file.action):
        return None
    shown = replace(quote, text=text.text, signature=signature.text, object=name.text, file=file.text)
    if shown == quote:
        return quote
    places = Places(text.findings)
    attended = tuple(Attended(*places.shown((word.start, word.end)), word.weight) for word in quote.attended)
    best = quote.highlight
    highlight = None if best is None else Highlight(*places.shown((best.start, best.end)))
    return replace(shown, attended=attended, highlight=highlight)


class GuardedCompleter(StandIn):
    """A completion model that reads, and says, what the policy lets through."""

    def __init__(self, model: CompletionModel, screening: Screening) -> None:
        """Stand before a model."""
        super().__init__(model)
        calls = screening.policy.calls
        if calls.min_focus is not None:
            rule = FocusRule(calls.min_focus, passes_unwatched=calls.unwatched is Action.ALLOW)
            self.watching = replace(self.watching, calls=rule)
        self._screening = screening
        #: Prompts whose texts were decided on; any other is spelled out first.
        self._known: set[tuple[int, ...]] = set()
        self._known_quotes: set[Constraint] = set()

    @property
    def chat(self) -> ChatFormat | None:
        """As the model's; its prompts are built of what the policy lets through."""
        chat = self._model.chat
        if chat is None:
            return None
        return replace(chat, build=GuardedPrompts(self._screening, self._known, chat.build).build)

    def encode(self, text: str) -> Sequence[int]:
        """As the model does, of what the policy lets through."""
        token_ids = self._model.encode(self._screening.input(text, "prompt").text)
        self._known.add(tuple(token_ids))
        return token_ids

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """As the model does; texts that are to be quoted word for word are read first.

        Raises:
            ContentPolicyViolation: one holds what is blocked or redacted.
        """
        constraint = sampling.constraint
        if constraint is not None and constraint.kind is ConstraintKind.VERBATIM:
            await run_in_threadpool(self._read_quotes, constraint)
        await super().prepare(sampling, tenant)

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """As the model does; the answer ends where it would say what is blocked.

        Raises:
            ContentPolicyViolation: token ids that came as such spell what is blocked or redacted, or a text
                that is to be quoted does.
        """
        if asked.sampling.constraint is not None:
            self._read_quotes(asked.sampling.constraint)
        if asked.token_ids not in self._known:
            self._read(asked.token_ids)
        return self._filtered(self._model.complete(asked, tenant))

    def _read(self, token_ids: tuple[int, ...]) -> None:
        text = self._model.tokenizer.decode(token_ids, skip_special_tokens=False)
        self._screening.exact(text, "prompt", "a prompt of token ids")
        self._known.add(token_ids)

    def _read_quotes(self, constraint: Constraint) -> None:
        if constraint not in self._known_quotes:
            for at, text in enumerate(constraint.quoted):
                self._screening.exact(text, f"grounding.texts[{at}]", "a text to quote")
            self._known_quotes.add(constraint)

    def _mark_id(self, mark: str) -> int:
        return self._model.tokenizer.encode(mark, add_special_tokens=False).ids[0]

    async def _filtered(self, tokens: Tokens) -> Tokens:
        screen = TokenFilter(self._screening.policy.output, self._mark_id)
        try:
            async with aclosing(tokens):
                async for together in tokens:
                    yield _settled(screen, together)
                    if screen.is_blocked:
                        return
        except Exception:
            if rest := screen.flush():
                yield rest
            raise
        finally:
            self._screening.note(OUTPUT, screen.findings, ANSWER)


def _settled(screen: TokenFilter, tokens: Iterable[Token]) -> Iterator[Token]:
    """Those that a filter gives for these; there may be none, or some that came before."""
    for token in tokens:
        yield from screen.push(token)
        if screen.is_blocked:
            return
