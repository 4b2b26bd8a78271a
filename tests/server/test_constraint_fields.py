"""How requests say what an answer must look like; what says nothing, two things or too much is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from pydantic import ValidationError

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import Constraint, constraints
from cynosure.engine.constraints import MAX_BYTES
from cynosure.server.schemas.completions import CompletionRequest
from tests.server.fakes import FakeCompleter, services, serving

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {}}}
AS_FORMAT = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}


def asked(**fields: object) -> Constraint | None:
    body = CompletionRequest.model_validate({"model": "m", "prompt": "p"} | fields)
    return body.sampling(16).constraint


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, constraints.json_object()),
        ({"response_format": AS_FORMAT}, constraints.json_schema(SCHEMA)),
        ({"guided_json": SCHEMA}, constraints.json_schema(SCHEMA)),
        ({"guided_json": json.dumps(SCHEMA, indent=2)}, constraints.json_schema(SCHEMA)),
        ({"guided_regex": "a+"}, constraints.regex("a+")),
        ({"guided_choice": ["a", "b"]}, constraints.choice(["a", "b"])),
        ({"guided_grammar": 'start: "a"'}, constraints.grammar('start: "a"')),
        ({"structured_outputs": {"json": SCHEMA}}, constraints.json_schema(SCHEMA)),
        ({"structured_outputs": {"regex": "a+"}}, constraints.regex("a+")),
        ({"structured_outputs": {"choice": ["a", "b"]}}, constraints.choice(["a", "b"])),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, constraints.grammar('start: "a"')),
        ({"structured_outputs": {"json_object": True}}, constraints.json_object()),
        ({"structured_outputs": {"json_object": True, "regex": None}}, constraints.json_object()),
    ],
)
def test_every_way_to_ask(fields: dict[str, object], expected: Constraint) -> None:
    assert asked(**fields) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": None, "guided_json": None, "guided_choice": None, "structured_outputs": None},
        {"structured_outputs": {"json_object": False}},
    ],
)
def test_ways_to_ask_for_nothing(fields: dict[str, object]) -> None:
    assert asked(**fields) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"guided_regex": "a", "guided_choice": ["b"]}, r"2 constraints are given \(regex, choice\)"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "limit is 1"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "limit is 1"),
        ({"guided_regex": ""}, "empty"),
        ({"guided_json": "{"}, "no JSON"),
        ({"guided_json": "[]"}, "not an object"),
        ({"guided_json": "[" * 100_000}, "no JSON"),
        ({"guided_json": {"const": "\ud800"}}, "surrogate"),
    ],
)
def test_what_can_not_be_meant(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        asked(**fields)


def test_sizes_are_bounded() -> None:
    with pytest.raises(InputTooLong, match=f"limit is {MAX_BYTES}"):
        asked(guided_regex="a" * (MAX_BYTES + 1))
    with pytest.raises(ValidationError, match="at most 1024"):
        asked(guided_choice=["a"] * 1025)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": {"type": "structural_tag"}}, "structural_tag"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "'schema' is not known"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "schema"),
        ({"structured_outputs": {"jsn": {}}}, "'jsn' is not known.*known: json, regex"),
        ({"structured_outputs": {"disable_any_whitespace": True}}, "disable_any_whitespace"),
        ({"guided_decoding_backend": "outlines"}, "not known"),
        ({"guided_choice": []}, "guided_choice"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        asked(**fields)


@pytest.fixture(scope="module")
def completer() -> FakeCompleter:
    return FakeCompleter()


@pytest.fixture(scope="module")
def url(completer: FakeCompleter) -> Iterator[str]:
    with serving(lambda _: services(completer)) as address:
        yield address


def test_the_route_hands_the_constraint_on(url: str, completer: FakeCompleter) -> None:
    body = {"model": "fake-completer", "prompt": "a", "guided_regex": "a+"}
    assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200
    assert completer.constraints[-1] == constraints.regex("a+")


def test_two_constraints_are_a_mistake_of_the_client(url: str) -> None:
    body = {"model": "fake-completer", "prompt": "a", "guided_regex": "a+", "guided_choice": ["b"]}
    answer = httpx.post(f"{url}/v1/completions", json=body)
    assert answer.status_code == 400
    assert "limit is 1" in answer.json()["error"]["message"]
