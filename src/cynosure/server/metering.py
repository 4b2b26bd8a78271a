"""Hand a request the models bound to who asks: for his tenant, on his account. Computes nothing.

A route gets its services so, and can neither forget the tenant nor choose another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat_format import ChatFormat
from cynosure.models.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.observe.metrics import Finish, ModelMetrics, ServingMetrics
from cynosure.server.limits import Clock
from cynosure.server.services import CompletionModel, EmbeddingModel, Services, Token, Vectors
from cynosure.server.visit import Visit


def metered(
    services: Services, visit: Visit, metrics: ServingMetrics, clock: Clock = time.monotonic
) -> Services:
    """The same services, for one request."""
    embedders: dict[str, EmbeddingModel] = {
        name: MeteredEmbedder(model, visit, metrics.of_model(name))
        for name, model in services.embedders.items()
    }
    completers: dict[str, CompletionModel] = {
        name: MeteredCompleter(model, visit, metrics.of_model(name), clock)
        for name, model in services.completers.items()
    }
    return replace(services, embedders=embedders, completers=completers)


class MeteredEmbedder:
    """An embedding model that a request pays for by the token."""

    def __init__(self, model: EmbeddingModel, visit: Visit, metrics: ModelMetrics) -> None:
        """Stand before a model."""
        self.name = model.name
        self.dim = model.dim
        self.max_tokens = model.max_tokens
        self._model = model
        self._visit = visit
        self._metrics = metrics

    def embed(self, texts: Sequence[str]) -> Vectors:
        """As the model does; how many tokens texts have is known, and paid, afterwards."""
        found = self._model.embed(texts)
        num_tokens = sum(found.token_counts)
        self._visit.model = self.name
        self._visit.num_prompt_tokens += num_tokens
        self._metrics.read(num_tokens)
        if self._visit.account is not None:
            self._visit.account.spend(num_tokens)
        return found

    def text_of(self, token_ids: Sequence[int]) -> str:
        """As the model does."""
        return self._model.text_of(token_ids)


class MeteredCompleter:
    """A completion model that serves one tenant, counts and times."""

    def __init__(self, model: CompletionModel, visit: Visit, metrics: ModelMetrics, clock: Clock) -> None:
        """Stand before a model."""
        self.name = model.name
        self.max_model_len = model.max_model_len
        self._model = model
        self._visit = visit
        self._metrics = metrics
        self._clock = clock

    @property
    def load(self) -> EngineLoad:
        """As the model's."""
        return self._model.load

    @property
    def tokenizer(self) -> Tokenizer:
        """As the model's."""
        return self._model.tokenizer

    @property
    def chat(self) -> ChatFormat | None:
        """As the model's."""
        return self._model.chat

    def encode(self, text: str) -> Sequence[int]:
        """As the model does."""
        return self._model.encode(text)

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """As the model does, for the tenant that asks."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        await self._model.prepare(sampling, self._visit.tenant)

    def complete(
        self, token_ids: Sequence[int], sampling: SamplingParams, tenant: str = ""
    ) -> AsyncGenerator[Token]:
        """As the model does, for the tenant that asks.

        Raises:
            RateLimitExceeded: its key may not use so many tokens yet.
        """
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        account, num_tokens = self._visit.account, len(token_ids)
        if account is not None:
            account.check(num_tokens)
        tokens = self._model.complete(token_ids, sampling, self._visit.tenant)
        if account is not None:
            account.spend(num_tokens)
        self._visit.model = self.name
        self._visit.num_prompt_tokens += num_tokens
        return self._watch(tokens, num_tokens)

    def close(self) -> None:
        """A request does not stop a model."""
        raise AssertionError("only the runtime stops models")

    async def _watch(self, tokens: AsyncGenerator[Token], num_prompt_tokens: int) -> AsyncGenerator[Token]:
        visit, last_s = self._visit, None
        finish: Finish = "error"
        try:
            async with aclosing(tokens):
                async for token in tokens:
                    now = self._clock()
                    if last_s is None:
                        self._metrics.read(num_prompt_tokens)
                        self._metrics.chose_first(now - visit.arrived_s)
                        visit.first_token_s = visit.first_token_s or now
                    else:
                        self._metrics.chose_next(now - last_s)
                    last_s = now
                    self._count(token)
                    if token.finish_reason is not None:
                        finish = "length" if token.finish_reason == "length" else "stop"
                    yield token
        except GeneratorExit:
            # Closed before its end: for a stop string, or since nobody listens any more.
            if finish == "error":
                finish = "abort" if visit.is_gone else "stop"
            raise
        except asyncio.CancelledError:
            finish = "abort"
            raise
        finally:
            visit.finish = finish
            self._metrics.finish(finish, self._clock() - visit.arrived_s)

    def _count(self, token: Token) -> None:
        self._visit.num_tokens += 1
        if token.finish_reason is not None:
            self._visit.num_cached += token.num_cached
        if self._visit.account is not None:
            self._visit.account.spend(1)
