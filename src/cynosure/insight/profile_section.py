"""Read a section of a profile into the model that knows it. Knows no section."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from cynosure.core.errors import CynosureError

Model = TypeVar("Model", bound=BaseModel)


def section_as(model: type[Model], section: object, named: str, error: type[CynosureError]) -> Model:
    """What a profile keeps, as `model`; `named` is what a person calls the section.

    Raises:
        CynosureError: `error`, where it is none that this version understands.
    """
    try:
        return model.model_validate_json(json.dumps(section))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "whole"
        raise error(
            f"the profile's section {named} is not usable ({where}: {first['msg']}). Fit it again with this "
            "version."
        ) from fault
