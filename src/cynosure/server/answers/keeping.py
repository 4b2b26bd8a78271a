"""Hand a request models whose answers are kept in tokens for the turns that follow. Computes nothing.

A route gets its services so, and need not know: prompts are built of the tokens that were generated where a
conversation repeats them, and answers to prompts that were built here are kept as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.prompt import ChatPrompt
from cynosure.server.answers.generated_ids import GeneratedIds, Place, TenantAnswers
from cynosure.server.services import CompletionModel, Generation, Services, Token, Tokens
from cynosure.server.stand_in import StandIn


def keeping(services: Services, tenant: str, store: GeneratedIds) -> Services:
    """The same services, for one tenant's request."""
    completers: Mapping[str, CompletionModel] = {
        name: model if model.chat is None else KeepingCompleter(model, store.of(tenant, name))
        for name, model in services.completers.items()
    }
    return replace(services, completers=completers)


class KeepingCompleter(StandIn):
    """A completion model that remembers in tokens what it answered."""

    def __init__(self, model: CompletionModel, answers: TenantAnswers) -> None:
        """Stand before a model that converses."""
        super().__init__(model)
        self._answers = answers
        #: Prompts that were built of a conversation, and what their answers are kept by.
        self._places: dict[tuple[int, ...], Place] = {}

    @property
    def chat(self) -> ChatFormat | None:
        """As the model's; its prompts go on from what was generated."""
        chat = self._model.chat
        if chat is None:
            return None
        return replace(chat, build=self._noting(chat.build), earlier=self._answers)

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        """As the model does; what it chose is kept when it ends, or is ended."""
        tokens = self._model.complete(asked, tenant)
        place = self._places.get(asked.token_ids)
        return tokens if place is None else self._kept(tokens, place)

    def close(self) -> None:
        """As the model does."""
        self._model.close()

    def _noting(self, build: Callable[..., ChatPrompt]) -> Callable[..., ChatPrompt]:
        def noted(*arguments: object, **options: object) -> ChatPrompt:
            prompt = build(*arguments, **options)
            self._places[prompt.token_ids] = self._answers.place(prompt.text)
            return prompt

        return noted

    async def _kept(self, tokens: Tokens, place: Place) -> Tokens:
        chosen: list[int] = []
        try:
            async with aclosing(tokens):
                async for together in tokens:
                    yield _noted(together, chosen)
        finally:
            self._answers.put(place, chosen)


def _noted(tokens: Iterable[Token], chosen: list[int]) -> Iterator[Token]:
    """The same, with their ids added to what was chosen as they are read."""
    for token in tokens:
        if token.token_id is not None:
            chosen.append(token.token_id)
        yield token
