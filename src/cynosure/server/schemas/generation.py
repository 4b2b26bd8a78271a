"""Shape what completions and chat share: where a text ends, how often and how urgently. Computes nothing.

`stop`, `stream`, `n` and `prompt_cache_...` are OpenAI's; `include_stop_str_in_output`,
`skip_special_tokens`, `return_token_ids` and `priority` are vLLM's; `deadline_ms`, `reproducible` and
`speculation` are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cynosure.engine.sampling import SamplingParams
from cynosure.engine.session import MAX_NAME_CHARS, Session
from cynosure.server.schemas.sampling import SamplingFields
from cynosure.server.schemas.wire import Never, Text, WireRequest
from cynosure.server.services import Generation
from cynosure.server.stop_text import StopText

MAX_STOPS = 16
MAX_SEQUENCES = 32
MAX_DEADLINE_MS = 24 * 60 * 60 * 1000
MAX_PRIORITY = 100

Stop = Annotated[Text, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=MAX_SEQUENCES)]


class StreamOptions(WireRequest):
    """What a stream adds."""

    include_usage: bool = False
    include_obfuscation: Never = False


class GenerationFields(SamplingFields):
    """Fields of a request that say what to do with the text, and when.

    A request may stand back behind others (`priority` above 0), never push ahead of them. What is computed of
    a prompt serves later requests anyway; `prompt_cache_key` names a session, whose pages stay longest, and
    `prompt_cache_retention` `24h` has them kept on disk.
    """

    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None
    reproducible: bool | None = None
    prompt_cache_key: Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    @model_validator(mode="after")
    def _a_session_has_a_name(self) -> Self:
        if self.prompt_cache_retention == "24h" and self.prompt_cache_key is None:
            raise ValueError("prompt_cache_retention 24h needs a prompt_cache_key, which names the session")
        if self.prompt_cache_key is not None and self.reproducible:
            raise ValueError("a reproducible request shares no pages; leave prompt_cache_key out")
        return self

    @property
    def session(self) -> Session | None:
        """Whose pages these are, where the request says so."""
        if self.prompt_cache_key is None:
            return None
        return Session(self.prompt_cache_key, is_on_disk=self.prompt_cache_retention == "24h")

    @property
    def stops(self) -> list[str]:
        """The stop strings, none or more."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def stop_text(self) -> StopText:
        """What ends one text; each sequence needs its own."""
        return StopText(self.stops, is_kept=self.include_stop_str_in_output is True)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    def asked(self, token_ids: Sequence[int], sampling: SamplingParams) -> Generation:
        """What the model is asked."""
        return Generation(
            tuple(token_ids),
            sampling,
            priority=self.priority or 0,
            deadline_ms=self.deadline_ms,
            is_reproducible=self.reproducible is True,
            skips_special=self.skip_special_tokens is not False,
            session=self.session,
        )
