"""Put down what each answer attended to, and tell whoever keeps or counts it. Reads no body."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count

from cynosure.insight import AttentionReport, Reading, ReadToken, ReportSink, tell_all
from cynosure.insight.audit_summary import KnowsAudits
from cynosure.server.answers.said_tokens import read_token
from cynosure.server.services import CompletionModel, Generation, Services, Token, Tokens
from cynosure.server.stand_in import StandIn
from cynosure.server.visit import Visit


def attending(services: Services, visit: Visit, route: str, audits: KnowsAudits | None = None) -> Services:
    """The same services for one request, whose watched answers are told when they end.

    `audits` knows how far citations have held, for answers that cite.
    """
    if not services.report_sinks:
        return services
    indices = count()
    completers: dict[str, CompletionModel] = {
        name: AttendedCompleter(
            model, _Desk(visit, route, services.report_sinks, audits, lambda: next(indices))
        )
        for name, model in services.completers.items()
    }
    return replace(services, completers=completers)


@dataclass(frozen=True)
class _Desk:
    """Whose answers they are, and who is told."""

    visit: Visit
    route: str
    sinks: Sequence[ReportSink]
    audits: KnowsAudits | None
    next_index: Callable[[], int]


@dataclass
class _Notes:
    """What was read of one answer so far."""

    tokens: list[ReadToken] = field(default_factory=list)
    length: int = 0
    finish: str | None = None


class AttendedCompleter(StandIn):
    """A completion model whose watched answers are reported. What it notes is what leaves, guarded."""

    def __init__(self, model: CompletionModel, desk: _Desk) -> None:
        """Stand before a model."""
        super().__init__(model)
        self.watching = replace(model.watching, audits=desk.audits)
        self._desk = desk

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """As the model does."""
        tokens = self._model.complete(asked, tenant)
        return tokens if asked.reading is None else self._followed(tokens, asked, asked.reading)

    async def _followed(self, tokens: Tokens, asked: Generation, reading: Reading) -> Tokens:
        notes, begun_s, index = _Notes(), time.time(), self._desk.next_index()
        try:
            async with aclosing(tokens):
                async for together in tokens:
                    yield _noted(notes, together, reading)
        finally:
            visit = self._desk.visit
            report = AttentionReport(
                request_id=visit.request_id,
                index=index,
                tenant=visit.tenant or "",
                model=self.name,
                route=self._desk.route,
                created_s=begun_s,
                reading=reading,
                prompt_ids=asked.token_ids,
                tokens=tuple(notes.tokens),
                finish=notes.finish,
                bias=asked.bias,
            )
            tell_all(self._desk.sinks, report)


def _noted(notes: _Notes, tokens: Iterable[Token], reading: Reading) -> Iterator[Token]:
    """The same, noted as they are read: what nobody reads is not of the answer."""
    for token in tokens:
        _note(notes, token, reading)
        yield token


def _note(notes: _Notes, token: Token, reading: Reading) -> None:
    notes.finish = token.finish_reason or notes.finish
    start = notes.length
    notes.length += len(token.text)
    if token.token_id is None:
        if notes.tokens and token.text:
            last = notes.tokens[-1]
            notes.tokens[-1] = replace(last, text=last.text + token.text)
        return
    notes.tokens.append(read_token(token, start, reading.segments))
