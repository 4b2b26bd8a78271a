"""Fields that are served with one value take it, and nothing that only equals it."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from cynosure.server.schemas.wire import Never, WireRequest, Zero


class Asked(WireRequest):
    off: Never | None = None
    none: Zero | None = None


def test_the_one_value_is_taken() -> None:
    assert Asked.model_validate({"off": False, "none": 0}) == Asked(off=False, none=0)
    assert Asked.model_validate({"off": None, "none": None}) == Asked()


@pytest.mark.parametrize(
    "body", [{"off": 0}, {"off": True}, {"off": "False"}, {"off": 0.0}, {"none": False}, {"none": 1}]
)
def test_what_only_equals_it_is_not(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Asked.model_validate(body)


def test_the_schema_says_so() -> None:
    assert TypeAdapter(Never).json_schema() == {"const": False, "type": "boolean"}
    assert TypeAdapter(Zero).json_schema() == {"maximum": 0, "minimum": 0, "type": "integer"}
