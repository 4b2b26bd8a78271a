"""Stand before a completion model, and be as it is unless told otherwise. Knows nothing of requests."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat.format import ChatFormat
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.server.services import CompletionModel


class StandIn:
    """What the guard, the meter and the keeper of answers share: all of a model but `complete`."""

    def __init__(self, model: CompletionModel) -> None:
        """Stand before a model."""
        self.name = model.name
        self.max_model_len = model.max_model_len
        self.watchable = model.watchable
        self.watching = model.watching
        self._model = model

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
        """As the model does."""
        await self._model.prepare(sampling, tenant)

    def close(self) -> None:
        """A request does not stop a model."""
        raise AssertionError("only the runtime stops models")
