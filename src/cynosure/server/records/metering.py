"""Hand a request the models bound to who asks: for his tenant, on his account. Computes nothing.

A route gets its services so, and can neither forget the tenant nor choose another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from cynosure.engine.report import RequestReport
from cynosure.engine.sampling import SamplingParams
from cynosure.insight import Evidence
from cynosure.observe.metrics import Finish, ModelMetrics, ServingMetrics
from cynosure.server.access.limits import Clock
from cynosure.server.services import (
    CompletionModel,
    EmbeddingModel,
    Generation,
    RankingModel,
    Scores,
    Services,
    Token,
    Tokens,
    Vectors,
)
from cynosure.server.stand_in import StandIn
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
    rankers: dict[str, RankingModel] = {
        name: MeteredRanker(model, visit, metrics.of_model(name)) for name, model in services.rankers.items()
    }
    return replace(services, embedders=embedders, completers=completers, rankers=rankers)


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

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        """As the model does; how many tokens texts have is known, and paid, afterwards."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        found = await self._model.embed(texts, self._visit.tenant)
        num_tokens = sum(found.token_counts)
        self._visit.model = self.name
        self._visit.num_prompt_tokens += num_tokens
        self._metrics.read(num_tokens)
        if self._visit.account is not None:
            self._visit.account.spend(num_tokens)
        return found

    async def attended(self, text: str, tenant: str = "") -> Evidence:
        """As the model does; the text is read a second time, and paid for."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        found = await self._model.attended(text, self._visit.tenant)
        self._metrics.read(found.num_tokens)
        if self._visit.account is not None:
            self._visit.account.spend(found.num_tokens)
        return found

    def text_of(self, token_ids: Sequence[int]) -> str:
        """As the model does."""
        return self._model.text_of(token_ids)


class MeteredRanker:
    """A ranking model that a request pays for by the token."""

    def __init__(self, model: RankingModel, visit: Visit, metrics: ModelMetrics) -> None:
        """Stand before a model."""
        self.name = model.name
        self.labels = model.labels
        self.kind = model.kind
        self.max_tokens = model.max_tokens
        self._model = model
        self._visit = visit
        self._metrics = metrics

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        """As the model does; how many tokens readings have is known, and paid, afterwards."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        found = await self._model.score(readings, self._visit.tenant)
        num_tokens = sum(found.token_counts)
        self._visit.model = self.name
        self._visit.num_prompt_tokens += num_tokens
        self._metrics.read(num_tokens)
        if self._visit.account is not None:
            self._visit.account.spend(num_tokens)
        return found

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        """As the model does; the text is read a second time, and paid for."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        found = await self._model.attended(query, text, self._visit.tenant)
        self._metrics.read(found.num_tokens)
        if self._visit.account is not None:
            self._visit.account.spend(found.num_tokens)
        return found


@dataclass
class _Course:
    """How far one sequence is."""

    last_s: float | None = None
    num_tokens: int = 0
    num_cached: int = 0
    finish: Finish = "error"


class MeteredCompleter(StandIn):
    """A completion model that serves one tenant, counts and times."""

    def __init__(self, model: CompletionModel, visit: Visit, metrics: ModelMetrics, clock: Clock) -> None:
        """Stand before a model."""
        super().__init__(model)
        self._visit = visit
        self._metrics = metrics
        self._clock = clock

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """As the model does, for the tenant that asks."""
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        begun_s = self._clock()
        await self._model.prepare(sampling, self._visit.tenant)
        if sampling.constraint is not None:
            self._visit.prepare_s += self._clock() - begun_s

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """As the model does, for the tenant that asks.

        Raises:
            RateLimitExceeded: its key may not use so many tokens yet.
        """
        assert not tenant, "who is served was settled when the request was admitted"
        assert self._visit.tenant is not None, "nobody was admitted"
        account = self._visit.account
        # A sibling goes on from a prompt that was paid for.
        num_tokens = 0 if asked.is_sibling else len(asked.token_ids)
        if account is not None and not asked.is_sibling:
            account.check(num_tokens)
        self._visit.note_sampling(asked.sampling)
        tokens = self._model.complete(replace(asked, on_report=self._note), self._visit.tenant)
        if account is not None:
            account.spend(num_tokens)
        self._visit.model = self.name
        self._visit.num_prompt_tokens += num_tokens
        return self._watch(tokens, num_tokens)

    async def _watch(self, tokens: Tokens, num_prompt_tokens: int) -> Tokens:
        visit, course = self._visit, _Course()
        try:
            async with aclosing(tokens):
                async for together in tokens:
                    if course.last_s is None:
                        self._metrics.read(num_prompt_tokens)
                    yield self._counted(tuple(together), course)
        except GeneratorExit:
            # Closed before its end: for a stop string, or since nobody listens any more.
            if course.finish == "error":
                course.finish = "abort" if visit.is_gone else "stop"
            raise
        except asyncio.CancelledError:
            course.finish = "abort"
            raise
        except Exception as failure:
            visit.error = type(failure).__name__
            raise
        finally:
            visit.finish = course.finish
            # A sibling's prompt was counted, and found, before.
            visit.num_cached += min(course.num_cached, num_prompt_tokens)
            passed_s = self._clock() - visit.arrived_s
            self._metrics.finish(course.finish, passed_s, num_prompt_tokens, course.num_tokens)

    def _counted(self, tokens: Sequence[Token], course: _Course) -> Iterator[Token]:
        """The same, counted as they are read; those that came together share the time that passed."""
        now, before_s = self._clock(), course.last_s
        course.last_s = now
        num_chosen = sum(token.token_id is not None for token in tokens)
        passed_s = None if before_s is None else (now - before_s) / max(1, num_chosen)
        for token in tokens:
            if token.token_id is not None:
                self._time(now, passed_s)
                passed_s = passed_s or 0.0
                self._visit.num_tokens += 1
                course.num_tokens += 1
                if self._visit.account is not None:
                    self._visit.account.spend(1)
            course.num_cached = max(course.num_cached, token.num_cached)
            if token.finish_reason is not None:
                course.finish = "length" if token.finish_reason == "length" else "stop"
            yield token

    def _note(self, report: RequestReport) -> None:
        self._visit.reports.append(report)
        self._metrics.went(
            queue_s=report.constraint_s + report.queue_s,
            prefill_s=report.prefill_s,
            decode_s=report.decode_s,
            num_preemptions=report.num_preemptions,
        )

    def _time(self, now: float, passed_s: float | None) -> None:
        if passed_s is None:
            self._metrics.chose_first(now - self._visit.arrived_s)
            self._visit.first_token_s = self._visit.first_token_s or now
        else:
            self._metrics.chose_next(passed_s)
