"""Stand in for a model that converses: a real tokenizer and template, and answers that are written down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cynosure.core.errors import InputTooLong
from cynosure.engine.sampling import SamplingParams
from cynosure.insight import WatchPolicy
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.observe.load import EngineLoad
from cynosure.server.services import Generation, Services, Token, Tokens
from tests.models.real_templates import CHATML
from tests.models.tiny_tokenizers import byte_level, write

#: Like the real one, and ending where the answer begins.
SOURCE = CHATML.replace("{{- ns.last }}\n", "")
MAX_MODEL_LEN = 4000


@dataclass
class ScriptedModel:
    """Gives `answer` in pieces of three characters, one a token, and keeps what it was asked."""

    tokenizer: Tokenizer
    chat: ChatFormat | None
    answer: str = "Hello there."
    name: str = "scripted"
    max_model_len: int | None = MAX_MODEL_LEN
    watchable: None = None
    watching: WatchPolicy = field(default_factory=WatchPolicy)
    fails_at: int | None = None
    pause_s: float = 0.0
    #: How many tokens come at one time.
    num_together: int = 1
    num_given: int = 0
    load: EngineLoad = field(default_factory=EngineLoad)
    prompts: list[Sequence[int]] = field(default_factory=list)
    sampled: list[SamplingParams] = field(default_factory=list)
    asked: list[Generation] = field(default_factory=list)

    def encode(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text).ids

    def close(self) -> None:
        pass

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        pass

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        token_ids, sampling = asked.token_ids, asked.sampling
        if len(token_ids) + sampling.max_tokens > MAX_MODEL_LEN:
            raise InputTooLong(
                f"{len(token_ids)} tokens are too many; the limit is {MAX_MODEL_LEN}. Shorten."
            )
        self.prompts.append(token_ids)
        self.sampled.append(sampling)
        self.asked.append(asked)
        return self._tokens(sampling.max_tokens)

    async def _tokens(self, limit: int) -> Tokens:
        pieces = [self.answer[start : start + 3] for start in range(0, len(self.answer), 3)]
        together: list[Token] = []
        for index, piece in enumerate(pieces[:limit]):
            if index == self.fails_at:
                raise ZeroDivisionError("a secret of the inside")
            await asyncio.sleep(self.pause_s)
            self.num_given += 1
            is_last = index + 1 == min(limit, len(pieces))
            reason = "stop" if limit >= len(pieces) else "length"
            together.append(Token(piece, reason if is_last else None, 2 if is_last else 0, token_id=index))
            # The first by itself, then as many as come together.
            if is_last or not index or index % self.num_together == 0:
                yield together
                together = []


def scripted(folder: Path, source: str | None = SOURCE) -> ScriptedModel:
    """A model over a tokenizer in `folder`; without a source it has no template."""
    tokenizer = Tokenizer.from_folder(write(folder, byte_level()))
    template = None if source is None else ChatTemplate({"default": source}, {}, tokenizer.control_tokens)
    return ScriptedModel(tokenizer, ChatFormat.of(template, tokenizer))


def serves(*models: ScriptedModel) -> Services:
    """These models and nothing else."""
    return Services({}, {}, {model.name: model for model in models}, 1_700_000_000)
