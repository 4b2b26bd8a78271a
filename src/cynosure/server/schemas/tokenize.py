"""Shape `/tokenize` and `/detokenize`, as vLLM's clients send and read them. Computes nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from cynosure.server.schemas.chat import MAX_MESSAGES, MAX_TOOLS, ChatMessage, Conversation, ToolParam
from cynosure.server.schemas.sampling import TokenId
from cynosure.server.schemas.wire import Text, WireRequest

MAX_TOKENS = 1 << 20


class TokenizeRequest(Conversation):
    """A text, or a conversation; `return_segments` is ours, and tells whose each token is."""

    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES, default_factory=list)]
    tools: Annotated[list[ToolParam], Field(max_length=MAX_TOOLS)] | None = None
    prompt: Text | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool = False
    return_segments: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeRequest:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("either prompt or messages is needed, and not both")
        of_chats = (self.tools, self.chat_template_kwargs, self.add_generation_prompt)
        if self.prompt is not None and (self.return_segments or any(value is not None for value in of_chats)):
            raise ValueError("a prompt has no tools, template or segments: these belong to messages")
        if self.messages and self.add_special_tokens is not None:
            raise ValueError("the template adds special tokens: add_special_tokens belongs to a prompt")
        return self


class SegmentBody(BaseModel):
    """What tokens belong to: a string of the request at `path`, or what the template wrote."""

    name: str
    path: str


class Tokens(BaseModel):
    """Token ids; where asked for, their spelling, and for each its segment and its place in it."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None
    segments: list[SegmentBody] | None = None
    token_segments: list[int] | None = None
    token_offsets: list[tuple[int, int] | None] | None = None


class DetokenizeRequest(WireRequest):
    """Token ids to read."""

    model: Text
    tokens: Annotated[list[TokenId], Field(max_length=MAX_TOKENS)]


class Detokenized(BaseModel):
    """The text, control tokens included."""

    prompt: str
