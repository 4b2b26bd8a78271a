"""Read requests strictly: an unknown field is refused by name. Knows no API family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

MAX_SHOWN = 60


def _is_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise ValueError(f"half of a surrogate pair stands at position {fault.start}") from fault
    return text


#: JSON can write half of a surrogate pair, which is no character and could not be written back.
Text = Annotated[str, AfterValidator(_is_unicode)]


#: What clients note beside an object of ours; nobody here reads it.
Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]],
    Field(max_length=16),
]


def _no_number(value: object) -> object:
    """What `Literal` refuses, where it would take 0 for False."""
    return value if isinstance(value, bool) else str(value)


#: The one truth value that is served.
Never = Annotated[Literal[False], BeforeValidator(_no_number)]
Zero = Annotated[int, Field(ge=0, le=0)]

#: More than any count of tokens, passages or alternatives; JSON itself knows no largest number.
MAX_COUNT = 2**31 - 1
Count0 = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Count1 = Annotated[int, Field(ge=1, le=MAX_COUNT)]
#: What every reader of JSON keeps exactly.
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]


#: What clients call a part of a message that is a picture.
_PICTURES = ("image_url", "input_image", "image")


def _no_picture(part: object) -> object:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _PICTURES:
        raise ValueError(
            f"a part of type {kind} is a picture, and pictures are not decoded here: over HTTP a model reads "
            "text alone. Leave it out, or give its pixels as a tensor in Python (docs/vision.md)."
        )
    return part


#: Refuses pictures by name, with what can be done instead.
NoPicture = BeforeValidator(_no_picture)


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


class Piece(BaseModel):
    """What may lack fields: clients tell one that is absent from one that is null."""

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}
