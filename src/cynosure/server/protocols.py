"""Say a failure in the shape that a protocol's clients parse. Knows nothing of what failed.

Everything in the server speaks OpenAI's shape; this translates at the door for addresses of other protocols.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi.responses import JSONResponse

ANTHROPIC = "/v1/messages"
RERANK = frozenset({"/v1/rerank", "/v2/rerank"})

_ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def is_anthropic(path: str) -> bool:
    """Whether Anthropic's clients ask this address."""
    return path == ANTHROPIC or path.startswith(f"{ANTHROPIC}/")


def anthropic_error(status: int, message: str, request_id: str) -> dict[str, object]:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def translated(response: JSONResponse, path: str, request_id: str) -> JSONResponse:
    """A failure in OpenAI's shape, as the clients of this address read it."""
    if not is_anthropic(path) and path not in RERANK:
        return response
    body = json.loads(bytes(response.body))
    message = body["error"]["message"]
    headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    if path in RERANK:
        # Cohere's clients read the message at the top, and others' the error beside it.
        return JSONResponse({"id": request_id, "message": message, **body}, response.status_code, headers)
    return JSONResponse(
        anthropic_error(response.status_code, message, request_id), response.status_code, headers
    )
