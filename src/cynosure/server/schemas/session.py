"""Shape how long what was computed is kept, as OpenAI's clients send it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cynosure.engine.session import MAX_NAME_CHARS, Session
from cynosure.server.schemas.wire import Text, WireRequest


class SessionFields(WireRequest):
    """Fields of a request that name its session.

    What is computed of a prompt serves later requests of the same tenant anyway; that of a session stays
    longest, and `24h` has it kept on disk.
    """

    prompt_cache_key: Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARS)] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None

    @model_validator(mode="after")
    def _a_session_on_disk_has_a_name(self) -> Self:
        if self.prompt_cache_retention == "24h" and self.prompt_cache_key is None:
            raise ValueError("prompt_cache_retention 24h needs a prompt_cache_key, which names the session")
        return self

    @property
    def session(self) -> Session | None:
        """Whose pages these are, where the request says so."""
        if self.prompt_cache_key is None:
            return None
        return Session(self.prompt_cache_key, is_on_disk=self.prompt_cache_retention == "24h")
