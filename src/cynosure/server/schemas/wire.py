"""Read requests strictly: an unknown field is refused by name. Knows no API family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

MAX_SHOWN = 60


def _is_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise ValueError(f"half of a surrogate pair stands at position {fault.start}") from fault
    return text


#: JSON can write half of a surrogate pair, which is no character and could not be written back.
Text = Annotated[str, AfterValidator(_is_unicode)]


class UnknownField(ValueError):
    """A request has a field that nobody reads."""

    def __init__(self, field: str, known: Iterable[str]) -> None:
        """Say which, and what there is."""
        self.field = field[:MAX_SHOWN].encode("ascii", "backslashreplace").decode()
        super().__init__(
            f"field {self.field!r} is not known here, and nothing is ignored; known: {', '.join(known)}. "
            "Leave it out."
        )


class WireRequest(BaseModel):
    """A request body; types are not coerced, and no field is ignored.

    A field that clients know and we do not serve is declared with the one value that asks for nothing, so
    that its other values are refused by name.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_strangers(cls, data: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever JSON held
        known = [field.alias or name for name, field in cls.model_fields.items()]
        strangers = [name for name in data if name not in known] if isinstance(data, dict) else []
        if strangers:
            raise UnknownField(strangers[0], known)
        return data
