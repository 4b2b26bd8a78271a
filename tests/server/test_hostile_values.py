"""Numbers that no machine holds, and texts that no file holds, end as refusals that name their field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cynosure.server.app import make_app
from cynosure.server.openapi_examples import EXAMPLES
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings
from tests.server.fakes import services, serving

#: What a message to the engine's process can hold, and a machine's word.
LARGEST = 2**63

Found = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app(Runtime(lambda _: services()), ServerSettings()).openapi()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(lambda _: services()) as url, httpx.Client(base_url=url) as client:
        yield client


def _whole_numbers(
    document: dict[str, Any], schema: dict[str, Any], path: str, around: tuple[str, ...] = ()
) -> Iterator[Found]:
    """Every field below a schema that takes a whole number, by its path."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in around:
            return
        schema, around = document["components"]["schemas"][name], (*around, name)
    for key in ("anyOf", "oneOf", "allOf"):
        for one in schema.get(key, []):
            yield from _whole_numbers(document, one, path, around)
    if schema.get("type") == "integer" and not {"const", "enum"} & schema.keys():
        yield path, schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _whole_numbers(document, schema[key], f"{path}[]", around)
    for name, one in schema.get("properties", {}).items():
        yield from _whole_numbers(document, one, f"{path}.{name}", around)


def _asked(document: dict[str, Any]) -> list[Found]:
    return [
        found
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "requestBody" in operation
        for content in operation["requestBody"]["content"].values()
        for found in _whole_numbers(document, content["schema"], path)
    ]


def test_every_whole_number_of_a_request_has_bounds_that_a_machine_holds(document: dict[str, Any]) -> None:
    found = _asked(document)
    assert {"/v1/completions.top_k", "/v1/messages.max_tokens", "/v1/rerank.top_n"} <= {
        path for path, _ in found
    }
    for path, schema in found:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -2 * LARGEST))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2 * LARGEST))
        assert -LARGEST <= low <= high <= LARGEST, (path, schema)


@pytest.mark.parametrize("number", ["1" + "0" * 30, "-" + "9" * 25, str(2**63), "1e400", "NaN", "Infinity"])
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/completions", "top_k"),
        ("/v1/completions", "max_tokens"),
        ("/v1/completions", "seed"),
        ("/v1/completions", "temperature"),
        ("/v1/chat/completions", "n"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/rerank", "top_n"),
        ("/v1/embeddings", "dimensions"),
        ("/v1/ask", "max_results"),
        ("/tokenize", "prompt"),
    ],
)
def test_a_number_that_no_machine_holds_is_refused_with_the_fields_name(
    client: httpx.Client, path: str, field: str, number: str
) -> None:
    body = next(iter(EXAMPLES[path].values())) | {field: "@"}
    content = json.dumps(body).replace('"@"', number)
    refused = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert refused.status_code == 400
    # NaN and Infinity are no JSON, so that there is no field to name.
    assert field in refused.text or number in ("NaN", "Infinity")


@pytest.mark.parametrize("path", [path for path in EXAMPLES if "{" not in path])
def test_deep_nesting_half_characters_and_nul_never_break_the_server(client: httpx.Client, path: str) -> None:
    body = next(iter(EXAMPLES[path].values()))
    for field in body:
        for planted in ("[" * 5000 + "]" * 5000, '"\\ud800"', '"\\u0000"', "1" * 5000, "{}", "[]"):
            content = json.dumps(body | {field: "@"}).replace('"@"', planted)
            answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (field, planted[:20], answer.text[:200])
