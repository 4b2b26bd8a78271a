"""Shape what completions and chat share: where a text ends, and how many there are. Computes nothing.

`stop`, `stream` and `n` are OpenAI's; `include_stop_str_in_output`, `skip_special_tokens` and
`return_token_ids` are vLLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from cynosure.engine.sampling import SamplingParams
from cynosure.server.schemas.end_user import EndUserFields
from cynosure.server.schemas.sampling import SamplingFields
from cynosure.server.schemas.treatment import TreatmentFields
from cynosure.server.schemas.wire import Never, Text, WireRequest
from cynosure.server.services import Generation
from cynosure.server.stop_text import StopText

MAX_STOPS = 16
MAX_SEQUENCES = 32

Stop = Annotated[Text, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=MAX_SEQUENCES)]


class StreamOptions(WireRequest):
    """What a stream adds."""

    include_usage: bool = False
    include_obfuscation: Never = False


class GenerationFields(SamplingFields, TreatmentFields, EndUserFields):
    """Fields of a request that say what to do with the text."""

    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
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
        is_skipped = self.skip_special_tokens is not False
        return replace(super().asked(token_ids, sampling), skips_special=is_skipped)
