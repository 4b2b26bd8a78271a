"""What may be asked of an answer, and what is refused before anything is compiled."""

from __future__ import annotations

import json

import pytest

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import ConstraintKind, SamplingParams, constraints
from cynosure.engine.constraints import MAX_BYTES, MAX_CHOICES, MAX_DEPTH


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    made = constraints.json_schema({"properties": {"b": {}, "a": {}}})
    assert made.kind is ConstraintKind.JSON_SCHEMA
    assert list(json.loads(made.text)["properties"]) == ["b", "a"]
    assert made != constraints.json_schema({"properties": {"a": {}, "b": {}}})


def test_params_with_constraints_can_be_compared_and_hashed() -> None:
    one, same = (SamplingParams(3, constraint=constraints.regex("a+")) for _ in range(2))
    assert one == same
    assert len({one.constraint, same.constraint, constraints.grammar("a+")}) == 2


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(depth - 1):
        schema = {"not": schema}
    return schema


def test_depth_is_bounded() -> None:
    constraints.json_schema(nested(MAX_DEPTH))
    with pytest.raises(InputError, match=f"more than {MAX_DEPTH} deep"):
        constraints.json_schema(nested(MAX_DEPTH + 1))
    with pytest.raises(InputError, match="deep"):
        constraints.json_schema(nested(100_000))


def test_size_is_bounded_in_bytes() -> None:
    constraints.regex("a" * MAX_BYTES)
    for text in ("a" * (MAX_BYTES + 1), "é" * (MAX_BYTES // 2 + 1)):
        with pytest.raises(InputTooLong, match=f"limit is {MAX_BYTES}"):
            constraints.regex(text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: constraints.regex(""), "empty"),
        (lambda: constraints.choice([]), "0 choices"),
        (lambda: constraints.choice(["a"] * (MAX_CHOICES + 1)), f"{MAX_CHOICES}"),
        (lambda: constraints.choice(["a", ""]), "choice 1 is empty"),
        (lambda: constraints.regex("\ud800"), "surrogate"),
        (lambda: constraints.json_schema({"const": "\ud800"}), "surrogate"),
        (lambda: constraints.json_schema({"const": float("nan")}), "JSON values"),
        (lambda: constraints.json_schema({"const": object()}), "JSON values"),
        (lambda: constraints.json_schema({"x-guidance": {"lenient": True}}), "x-guidance"),
    ],
)
def test_what_can_be_no_constraint_is_refused(make, said: str) -> None:  # noqa: ANN001
    with pytest.raises(InputError, match=said):
        make()
