"""Follow one answer of a conversation from tokens to what was thought, said and called. Knows no protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import UnknownOption
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat_answer import AnswerReader, Part
from cynosure.models.chat_format import ChatFormat, Tool
from cynosure.models.chat_prompt import ChatPrompt, Message
from cynosure.server.services import CompletionModel, Token
from cynosure.server.stop_text import StopText

#: Where a request names no limit, and the model leaves so much room.
DEFAULT_MAX_TOKENS = 2048

Finish = Literal["stop", "length", "tool_calls"]


@dataclass
class ChatTurn:
    """One answer under way, and what it has cost so far."""

    model: str
    num_prompt_tokens: int
    tokens: AsyncGenerator[Token]
    stop: StopText
    reader: AnswerReader
    num_tokens: int = 0
    num_cached: int = 0
    finish: Finish = "length"

    async def parts(self) -> AsyncGenerator[Part]:
        """What is final, as it comes; `finish` is set by its end."""
        async with aclosing(self.tokens):
            async for token in self.tokens:
                self.num_tokens += 1
                self.num_cached = token.num_cached
                for part in self.reader.push(self.stop.push(token.text)):
                    yield part
                if self.stop.is_stopped or token.finish_reason == "stop":
                    self.finish = "stop"
                if self.stop.is_stopped:
                    break
        for part in self.reader.push(self.stop.finish()) + self.reader.finish():
            yield part
        if self.reader.num_calls and self.finish == "stop":
            self.finish = "tool_calls"


def chat_of(model: CompletionModel) -> ChatFormat:
    """How a model converses.

    Raises:
        UnknownOption: It does not.
    """
    if model.chat is None:
        raise UnknownOption(
            f"{model.name} has no chat template, so that it can't read messages. Send a prompt to "
            "/v1/completions, or put a chat_template.jinja into its folder."
        )
    return model.chat


async def build_prompt(
    model: CompletionModel,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    variables: dict[str, object] | None = None,
    add_generation_prompt: bool = True,
) -> ChatPrompt:
    """The conversation in tokens; templates take their time, so that others are served meanwhile."""
    return await run_in_threadpool(
        chat_of(model).prompt,
        messages,
        tools,
        add_generation_prompt=add_generation_prompt,
        variables=variables,
    )


async def begin_turn(
    model: CompletionModel,
    prompt: ChatPrompt,
    tools: Sequence[Tool],
    stops: Sequence[str],
    sampling: SamplingParams,
) -> ChatTurn:
    """Have the answer begun; what is wrong with constraint or prompt shows while a status can say so."""
    reader = chat_of(model).reader(prompt, tools)
    await model.prepare(sampling)
    tokens = model.complete(prompt.token_ids, sampling)
    return ChatTurn(model.name, len(prompt.token_ids), tokens, StopText(stops), reader)


def room_after(model: CompletionModel, prompt: ChatPrompt) -> int:
    """How many tokens an answer may have whose request does not say."""
    if model.max_model_len is None:
        return DEFAULT_MAX_TOKENS
    return max(1, min(DEFAULT_MAX_TOKENS, model.max_model_len - len(prompt.token_ids)))
