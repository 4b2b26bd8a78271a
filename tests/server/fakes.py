"""Stand in for models and documentation, and run the real server over them. Computes nothing real."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import uvicorn

from cynosure.core.errors import EmptyInput, InputError, InputTooLong, NotFound
from cynosure.engine.constraints import Constraint
from cynosure.engine.sampling import SamplingParams
from cynosure.insight import Evidence, WatchPolicy, WordWeight
from cynosure.observe.load import EngineLoad
from cynosure.server.admission import Admission
from cynosure.server.app import make_app
from cynosure.server.listening import take_port
from cynosure.server.records.oversight import Oversight
from cynosure.server.runtime import Load, Runtime
from cynosure.server.services import (
    Answer,
    Attended,
    Generation,
    Quote,
    Services,
    SourcePlace,
    SourceText,
    Token,
    Tokens,
    Vectors,
)
from cynosure.server.settings import ServerSettings

DIM = 8
MAX_TOKENS = 6
CREATED = 1_700_000_000
MERGE_DOC = "Merge multiple sorted inputs into a single sorted output."
QUOTES = (
    Quote(MERGE_DOC, "heapq.merge", "function", "(*iterables)", 0, 57, 0.8, 0.9, (Attended(0, 5, 1.0),)),
    Quote("Return a new sorted list.", "sorted", "function", "(iterable, /)", 10, 35, 0.6, 0.7),
    Quote("Sort the list in place.", "list.sort", "method", "(self)", 0, 23, 0.3, 0.2),
)
#: What stands around the quotes.
BEFORE, AFTER = "It begins here. ", "\n\nAnd it ends here."


class FakeEmbedder:
    """Vectors that depend on the text only; a token is a word."""

    name, dim, max_tokens = "fake-embedder", DIM, MAX_TOKENS

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        for text in texts:
            if not text.strip():
                raise EmptyInput("a text is empty. Write something.")
            if len(text.split()) > MAX_TOKENS:
                raise InputTooLong(
                    f"a text has {len(text.split())} tokens; the limit is {MAX_TOKENS}. Shorten it."
                )
        vectors = np.stack([vector_of(text) for text in texts])
        return Vectors(vectors, tuple(len(text.split()) for text in texts))

    async def attended(self, text: str, tenant: str = "") -> Evidence:
        words = [WordWeight(0, len(text.split()[0]), 1.0)]
        return Evidence(tuple(words), 0.5, 0.25, 0.25, len(text.split()))

    def text_of(self, token_ids: Sequence[int]) -> str:
        if max(token_ids) > 99:
            raise InputError("no such token. Send the text.")
        return " ".join(f"w{token}" for token in token_ids)


def vector_of(text: str) -> np.ndarray:
    """A vector of length 1, the same for the same text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    vector = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


class FakeStore:
    """Finds the same three passages for every query but `nothing`."""

    name, title, num_documents, num_bytes = "fake-docs", "Fake documentation", 3, 4096

    async def search(self, query: str, max_results: int) -> Sequence[Quote]:
        if not query.strip():
            raise EmptyInput("the question is empty. Ask something.")
        if len(query) > 2000:
            raise InputTooLong(f"the question has {len(query)} characters; the limit is 2000. Shorten it.")
        return QUOTES[:max_results]

    async def ask(self, question: str, max_results: int) -> Answer:
        quotes = await self.search(question, max_results)
        if "nothing" in question:
            return Answer(False, "no passage reaches the score of 0.5", (), 0.4, 0.5)
        return Answer(True, "", tuple(quotes), 0.9, 0.5, {"search": 1.0})

    async def source(self, place: SourcePlace) -> SourceText:
        for quote in QUOTES:
            text = BEFORE[: quote.start] + quote.text + AFTER
            if quote.object == place.object and place.end <= len(text):
                return SourceText(quote.object, quote.kind, quote.signature, text, place.start, place.end)
        raise NotFound(f"no text of {place.object!r} holds {place.start}..{place.end}. Ask anew.")


class FakeTokenizer:
    """Spells a token as a word, and any text as token 0."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return " ".join(f"w{token_id}" for token_id in token_ids)

    def token_to_id(self, token: str) -> int | None:
        return None


@dataclass
class FakeCompleter:
    """Says the prompt's words again, and counts what it was made to do."""

    name: str = "fake-completer"
    max_model_len: int | None = 64
    watchable: None = None
    watching: WatchPolicy = field(default_factory=WatchPolicy)
    pause_s: float = 0.0
    fails_at: int | None = None
    fails_with: str = "a secret of the inside"
    num_given: int = 0
    load: EngineLoad = field(default_factory=EngineLoad)
    tenants: list[str] = field(default_factory=list)
    constraints: list[Constraint | None] = field(default_factory=list)
    is_closed: threading.Event = field(default_factory=threading.Event)
    #: What stands before the number of a token; the guard holds digits back that may be a card's.
    prefix: str = " "
    tokenizer: FakeTokenizer = field(default_factory=lambda: FakeTokenizer())
    chat: None = None

    def encode(self, text: str) -> Sequence[int]:
        return [len(word) for word in text.split()]

    def close(self) -> None:
        self.is_closed.set()

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        self.constraints.append(sampling.constraint)

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        token_ids, sampling = asked.token_ids, asked.sampling
        self.tenants.append(tenant)
        if not token_ids:
            raise EmptyInput("prompt 0 has no tokens; give at least one.")
        if sampling.max_tokens > 10**6:
            raise InputTooLong("that is too long; the limit is 1000000. Lower max_tokens.")
        return self._tokens(token_ids, sampling.max_tokens)

    async def _tokens(self, token_ids: Sequence[int], count: int) -> Tokens:
        try:
            for index in range(count):
                if index == self.fails_at:
                    raise ZeroDivisionError(self.fails_with)
                await asyncio.sleep(self.pause_s)
                self.num_given += 1
                reason = "length" if index == count - 1 else None
                yield [Token(f"{self.prefix}{index}", reason, token_id=index)]
        finally:
            self.is_closed.set()


def services(completer: FakeCompleter | None = None) -> Services:
    """One of each."""
    made = completer or FakeCompleter()
    return Services({"fake-embedder": FakeEmbedder()}, {"fake-docs": FakeStore()}, {made.name: made}, CREATED)


@contextmanager
def serving(
    load: Load,
    settings: ServerSettings | None = None,
    wait: bool = True,
    wait_s: float = 20.0,
    admission: Admission | None = None,
    oversight: Oversight | None = None,
) -> Iterator[str]:
    """A real server on a free port; yields its address, once it is ready or at once."""
    settings = settings or ServerSettings(port=0)
    listener = take_port(settings)
    runtime = Runtime(load)
    config = uvicorn.Config(
        make_app(runtime, settings, admission, oversight),
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    runtime.start()
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        _wait_for(runtime, f"{url}/live", wait, wait_s)
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        runtime.stop()


def _wait_for(runtime: Runtime, url: str, is_loaded: bool, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if (runtime.services is not None or not is_loaded) and httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{url} did not become ready")
