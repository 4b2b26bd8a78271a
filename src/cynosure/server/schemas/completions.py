"""Shape `/v1/completions`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.server.schemas.sampling import SamplingFields, TokenId
from cynosure.server.schemas.wire import Text, WireRequest

MAX_STOPS = 4

TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Stop = Annotated[Text, Field(min_length=1, max_length=200)]


class StreamOptions(WireRequest):
    """What a stream adds."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class CompletionRequest(SamplingFields):
    """One prompt to continue. Fields with one permitted value are known and not served otherwise."""

    model: Text
    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=1)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=1)]
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> CompletionRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    @property
    def one_prompt(self) -> str | list[int]:
        """The prompt, whichever way it was written."""
        first = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        if isinstance(first, int):
            assert isinstance(self.prompt, list)
            return [token for token in self.prompt if isinstance(token, int)]
        return first

    @property
    def stops(self) -> list[str]:
        """The stop strings, none or more."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop


class PromptTokensDetails(BaseModel):
    """How many tokens of the prompt were found in the cache and not computed."""

    cached_tokens: int = 0


class Usage(BaseModel):
    """Tokens read and chosen; the one that ended the text is counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()


class Choice(BaseModel):
    """Text that follows the prompt; of a stream, the text that is new."""

    index: Literal[0] = 0
    text: str
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class Completion(BaseModel):
    """A continuation, or a part of one; the last part of a stream may have usage and no choice."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
