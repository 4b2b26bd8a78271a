"""Describe the API to programs as it is: keys, failures, streams, examples. Knows no route's inside.

What FastAPI derives from the routes is right about what is asked and answered; this adds what stands around
the routes: the gate and the journal before them, the one shape of failures, and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cynosure.server.admission import is_open
from cynosure.server.errors import RETRY_AFTER_S
from cynosure.server.openapi_examples import EXAMPLES
from cynosure.server.protocols import RERANK, is_anthropic
from cynosure.server.schemas.chat import ChatChunk
from cynosure.server.schemas.completions import Completion
from cynosure.server.schemas.failures import AnthropicFailure, Failure, RerankFailure, Unready

#: Statuses of every address, and of those that take a body besides; the text says when.
ANYWHERE: Mapping[int, str] = {
    400: "The request can't be used: something is unknown, out of range, or not this model's.",
    401: "No API key came with the request, or none of ours.",
    403: "The request calls us by a foreign name, comes from a foreign page, or wants an admin's key.",
    404: "No such model, store or address.",
    500: "A failure of ours; its inside is in the log only.",
    503: "Loading, busy, or the machine lacks something. Come back as `Retry-After` says.",
}
WITH_BODY: Mapping[int, str] = {
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is not of the type that is taken here: `application/json`, or a form with a file.",
    429: "A limit of the key is reached. Come back as `Retry-After` says.",
}
#: What an open address can still refuse.
_OPEN = (403, 500)
#: What each event of a stream holds, by address.
_STREAMS: Mapping[str, tuple[str, type[BaseModel] | None]] = {
    "/v1/completions": ("Each event's data is a `Completion`; the last is `[DONE]`.", Completion),
    "/v1/chat/completions": ("Each event's data is a `ChatChunk`; the last is `[DONE]`.", ChatChunk),
    "/v1/responses": ("Events as OpenAI names them, from `response.created` on.", None),
    "/v1/messages": ("Events as Anthropic names them, from `message_start` on.", None),
}
_KEYS: Mapping[str, object] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's and Cohere's clients say it."},
    "apiKey": {
        "type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients say it."
    },
}  # fmt: skip
#: What FastAPI calls a form.
_FORM = "Body_"
_REF = "#/components/schemas/{model}"

Document = dict[str, Any]


def install(app: FastAPI, is_keyless: Callable[[], bool]) -> None:
    """Have the application describe itself so; `is_keyless` tells whether anybody may call it."""

    def openapi() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app, is_keyless=is_keyless())
        return app.openapi_schema

    app.openapi = openapi


def describe(app: FastAPI, *, is_keyless: bool) -> Document:
    """The OpenAPI document of an application."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, schema in schemas.items():
        # Forms are read as strictly as JSON is.
        if name.startswith(_FORM):
            schema["additionalProperties"] = False
    streamed = [model for _, model in _STREAMS.values() if model is not None]
    added = [Failure, AnthropicFailure, RerankFailure, Unready, *streamed]
    _, defined = models_json_schema([(model, "serialization") for model in added], ref_template=_REF)
    for name, schema in defined["$defs"].items():
        schemas.setdefault(name, schema)
    document["components"]["securitySchemes"] = dict(_KEYS)
    keys: list[Document] = [{name: []} for name in _KEYS]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, path, has_body=method in ("post", "put", "patch"))
            operation["security"] = [] if is_open(path) else [*keys, *([{}] if is_keyless else [])]
    return document


def _complete(operation: Document, path: str, *, has_body: bool) -> None:
    """Add to one operation what can become of it."""
    responses = operation["responses"]
    responses.pop("422", None)
    statuses = {**ANYWHERE, **(WITH_BODY if has_body else {})}
    for status, text in statuses.items():
        if not is_open(path) or status in _OPEN:
            responses.setdefault(str(status), _failure(status, text, path))
    for response in responses.values():
        response.setdefault("headers", {})["X-Request-Id"] = {
            "required": True,
            "schema": {"type": "string"},
            "description": "The client's own id where it is well formed, else a new one.",
        }
    if path in _STREAMS:
        responses["200"]["content"]["text/event-stream"] = {"schema": _event(*_STREAMS[path])}
    if path in EXAMPLES and has_body:
        [content] = operation["requestBody"]["content"].values()
        content["examples"] = {name: {"value": value} for name, value in EXAMPLES[path].items()}


def _event(text: str, model: type[BaseModel] | None) -> Document:
    """One event of a stream."""
    data: Document = {"type": "string"}
    if model is not None:
        content = {"$ref": _REF.format(model=model.__name__)}
        data |= {"contentMediaType": "application/json", "contentSchema": content}
    properties = {"data": data, "event": {"type": "string"}}
    return {"type": "object", "description": text, "required": ["data"], "properties": properties}


def _failure(status: int, text: str, path: str) -> Document:
    model = RerankFailure if path in RERANK else AnthropicFailure if is_anthropic(path) else Failure
    if path == "/ready" and status == 503:
        model = Unready
    schema = {"$ref": _REF.format(model=model.__name__)}
    response: Document = {"description": text, "content": {"application/json": {"schema": schema}}}
    if status in (429, 503):
        seconds = {"type": "integer", "minimum": 1, "example": RETRY_AFTER_S}
        response["headers"] = {"Retry-After": {"required": True, "schema": seconds}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return response
