"""What may be asked of an answer, and what is refused before anything is compiled."""

from __future__ import annotations

import json

import pytest

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import ConstraintKind, SamplingParams, constraints
from cynosure.engine.constraints import (
    MAX_BYTES,
    MAX_CHOICES,
    MAX_DEPTH,
    MAX_MIN_CHARS,
    MAX_NAMES,
    MAX_QUOTED_BYTES,
    MAX_TEXTS,
)


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
        (lambda: constraints.verbatim([]), "0 texts"),
        (lambda: constraints.verbatim(["a"] * (MAX_TEXTS + 1)), f"{MAX_TEXTS}"),
        (lambda: constraints.verbatim(["a", ""]), "text 1 to quote is empty"),
        (lambda: constraints.verbatim(["a"], min_chars=0), "min_chars is 0"),
        (lambda: constraints.verbatim(["a"], min_chars=MAX_MIN_CHARS + 1), f"{MAX_MIN_CHARS}"),
        (lambda: constraints.verbatim(["\ud800"]), "surrogate"),
        (lambda: constraints.names(["a", "b c"]), "'b c' is no name"),
        (lambda: constraints.names([""]), "'' is no name"),
        (lambda: constraints.names(["a"] * (MAX_NAMES + 1)), f"{MAX_NAMES}"),
    ],
)
def test_what_can_be_no_constraint_is_refused(make, said: str) -> None:  # noqa: ANN001
    with pytest.raises(InputError, match=said):
        make()


def test_texts_to_quote_may_be_longer_and_are_bounded_together() -> None:
    made = constraints.verbatim(["a" * MAX_BYTES, "b" * MAX_BYTES])
    assert made.quoted == ("a" * MAX_BYTES, "b" * MAX_BYTES)
    assert constraints.regex("a").quoted == ()
    with pytest.raises(InputTooLong, match=f"limit is {MAX_QUOTED_BYTES}"):
        constraints.verbatim(["a" * MAX_QUOTED_BYTES])


def test_names_of_one_set_behind_one_place_are_one_constraint() -> None:
    one = constraints.names(["b", "a", "b"], before="x = foo.ba")
    assert one == constraints.names({"a", "b"}, before="ba")
    assert one != constraints.names(["a", "b"])
