"""The description of the API says what stands around the routes, and its examples are usable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from cynosure.server.app import make_app
from cynosure.server.openapi_examples import EXAMPLES
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings
from tests.house.rules import ROOT
from tests.server.fakes import services, serving
from tests.server.keyrings import ADMIN, bearer, guarded


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app(Runtime(lambda _: services()), ServerSettings()).openapi()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: services()) as address:
        yield address


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def _check(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_every_operation_tells_its_failures(document: dict[str, Any]) -> None:
    guarded_paths = 0
    for path, method, operation in _operations(document):
        told = set(operation["responses"])
        assert "422" not in told, (method, path)
        if path == "/live":
            assert {"403", "500"} <= told
            assert operation["security"] == []
            continue
        guarded_paths += 1
        assert {"400", "401", "403", "404", "500", "503"} <= told, (method, path)
        assert ({"408", "413", "415", "429"} <= told) == (method == "post"), (method, path)
        assert "Retry-After" in operation["responses"]["503"]["headers"]
    assert guarded_paths > 20


@pytest.mark.parametrize(("lines", "is_open"), [("", True), (None, False)])
def test_keys_are_optional_only_where_there_are_none(lines: str | None, is_open: bool) -> None:
    keys = [{"bearer": []}, {"apiKey": []}]
    if is_open:
        with serving(lambda _: services()) as url:
            document = httpx.get(f"{url}/openapi.json").json()
        keys.append({})
    else:
        with guarded() as url:
            document = httpx.get(f"{url}/openapi.json", headers=bearer(ADMIN)).json()
    assert document["paths"]["/v1/ask"]["post"]["security"] == keys
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["apiKey"]["in"], schemes["apiKey"]["name"]) == ("header", "x-api-key")


@pytest.mark.parametrize("path", sorted(EXAMPLES))
def test_examples_fit_their_schemas(document: dict[str, Any], path: str) -> None:
    [content] = document["paths"][path]["post"]["requestBody"]["content"].values()
    assert content["examples"]
    for example in content["examples"].values():
        _check(document, content["schema"], example["value"])


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    bodies = {path for path, _, operation in _operations(document) if "requestBody" in operation}
    assert bodies == set(EXAMPLES)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/ask", {}, 400),
        ("/v1/rerank", {}, 400),
        ("/v2/rerank", {"model": "absent", "query": "q", "documents": ["d"]}, 404),
        ("/v1/messages", {}, 400),
        ("/v1/embeddings", {"model": "absent", "input": "a"}, 404),
    ],
)
def test_failures_have_the_shape_that_is_described(
    document: dict[str, Any], url: str, path: str, body: dict[str, object], status: int
) -> None:
    response = httpx.post(url + path, json=body)
    assert response.status_code == status
    described = document["paths"][path]["post"]["responses"][str(status)]
    _check(document, described["content"]["application/json"]["schema"], response.json())


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_streams_are_described(document: dict[str, Any], path: str) -> None:
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert found
    prefix = "#/components/schemas/"
    assert not {
        reference
        for reference in found
        if not reference.startswith(prefix)
        or reference.removeprefix(prefix) not in document["components"]["schemas"]
    }


def test_an_address_tells_all_its_methods(url: str) -> None:
    response = httpx.put(f"{url}/v1/responses/resp_1")
    assert response.status_code == 405
    assert response.headers["Allow"] == "DELETE, GET"
    assert "use DELETE, GET" in response.json()["error"]["message"]


def test_every_address_stands_in_the_handbook(document: dict[str, Any]) -> None:
    pages = "".join(path.read_text() for path in Path(ROOT / "docs").glob("*.md"))
    for path in document["paths"]:
        stem = path.partition("{")[0].rstrip("/")
        assert stem in pages, path
