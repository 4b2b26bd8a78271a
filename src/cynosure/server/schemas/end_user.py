"""Shape whom a caller asks for, as OpenAI's clients say it. Computes nothing.

The name is kept as a digest beside the record of the request, and is used for nothing else: no page, limit or
turn goes by it.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cynosure.server.schemas.wire import Text, WireRequest

MAX_NAME_CHARS = 256

EndUserName = Annotated[Text, Field(max_length=MAX_NAME_CHARS)]


class EndUserFields(WireRequest):
    """Fields of a request that name the person behind it; `user` is the older name of the other."""

    user: EndUserName | None = None
    safety_identifier: EndUserName | None = None

    @model_validator(mode="after")
    def _one_person_asks(self) -> Self:
        if self.user and self.safety_identifier and self.user != self.safety_identifier:
            raise ValueError("user and safety_identifier name two people; give one of them")
        return self

    @property
    def end_user(self) -> str:
        """Who asks; empty where nobody is named."""
        return self.safety_identifier or self.user or ""
