"""Shape how requests say what an answer must look like. Computes nothing.

`response_format` is OpenAI's; `structured_outputs`, and the older `guided_*`, are vLLM's.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from cynosure.core.errors import InputError
from cynosure.engine import constraints
from cynosure.engine.constraints import MAX_CHOICES, Constraint
from cynosure.server.schemas.wire import Never, Text, WireRequest

#: A schema, as an object or as the text of one.
Schema = dict[str, Any] | Text
Choices = Annotated[list[Text], Field(min_length=1, max_length=MAX_CHOICES)]


class TextFormat(WireRequest):
    """Any text."""

    type: Literal["text"]

    @property
    def constraint(self) -> None:
        """Nothing is asked."""
        return


class JsonObjectFormat(WireRequest):
    """Some JSON object."""

    type: Literal["json_object"]

    @property
    def constraint(self) -> Constraint:
        """What the engine is asked."""
        return constraints.json_object()


class NamedSchema(WireRequest):
    """A schema with what the caller calls it; it is followed to the letter whether `strict` or not."""

    name: Annotated[Text, Field(max_length=64)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Text | None = None
    strict: bool | None = None


class JsonSchemaFormat(WireRequest):
    """JSON that a schema accepts."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    @property
    def constraint(self) -> Constraint:
        """What the engine is asked."""
        return constraints.json_schema(self.json_schema.schema_)


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(WireRequest):
    """Exactly one of five ways to constrain an answer."""

    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: Text | None = None
    choice: Choices | None = None
    grammar: Text | None = None
    json_object: bool | None = None
    disable_any_whitespace: Never | None = None
    disable_additional_properties: Never | None = None
    whitespace_pattern: None = None

    def all(self) -> list[Constraint]:
        """What is asked; none, where every field is left out.

        Raises:
            InputError: A field is not usable.
        """
        found = [constraints.json_object()] if self.json_object else []
        if self.json_ is not None:
            found.append(constraints.json_schema(_schema(self.json_)))
        if self.regex is not None:
            found.append(constraints.regex(self.regex))
        if self.choice is not None:
            found.append(constraints.choice(self.choice))
        if self.grammar is not None:
            found.append(constraints.grammar(self.grammar))
        return found


def the_one(found: list[Constraint]) -> Constraint | None:
    """The constraint of a request, or None.

    Raises:
        InputError: There are several.
    """
    if len(found) > 1:
        kinds = ", ".join(constraint.kind.value for constraint in found)
        raise InputError(f"{len(found)} constraints are given ({kinds}); the limit is 1. Leave others out.")
    return found[0] if found else None


def _schema(given: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    try:
        schema = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the json_schema is no JSON: {error}. Send an object.") from error
    if not isinstance(schema, dict):
        raise InputError(f"the json_schema is a JSON {type(schema).__name__}; not an object. Send one.")
    return schema
