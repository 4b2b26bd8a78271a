"""Shape what completions and chat share: where a text ends, how often and how urgently. Computes nothing.

`stop`, `stream` and `n` are OpenAI's; `include_stop_str_in_output`,
`skip_special_tokens`, `return_token_ids` and `priority` are vLLM's; `deadline_ms`, `reproducible` and
`speculation` are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from cynosure.engine.sampling import SamplingParams
from cynosure.server.schemas.sampling import SamplingFields
from cynosure.server.schemas.session import SessionFields
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


class GenerationFields(SamplingFields, SessionFields):
    """Fields of a request that say what to do with the text, and when.

    A request may stand back behind others (`priority` above 0), never push ahead of them.
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
    speculation: bool | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        return self

    @model_validator(mode="after")
    def _what_is_reproducible_shares_nothing(self) -> Self:
        if self.prompt_cache_key is not None and self.reproducible:
            raise ValueError("a reproducible request shares no pages; leave prompt_cache_key out")
        if self.speculation and self.reproducible:
            raise ValueError("a reproducible request computes each token alone; leave speculation out")
        return self

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
            speculation=self.speculation,
        )
