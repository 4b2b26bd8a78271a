"""Checks of our own for Schemathesis, which imports this file by its name. Holds no test."""

from __future__ import annotations

import schemathesis
from schemathesis import Case, CheckContext, Response

#: How a refusal begins that is about fields which are each well formed and do not fit together: a JSON schema
#: can't say all of these.
RELATION = "the request is not usable:"


@schemathesis.check
def no_schema_lie(ctx: CheckContext, response: Response, case: Case) -> None:
    """What the schema allows is never refused for its shape.

    It may be refused for what no schema can say: a text that is too long, an id that is not this model's.
    """
    del ctx
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    body = response.json()
    error = body["error"]
    is_shape = error.get("code") == "invalid_request" or error["message"].startswith("field ")
    is_told = not is_shape or error["message"].startswith(RELATION) or _has_whole_float(case.body)
    assert is_told, f"the schema allows it: {error['message']}"


def _has_whole_float(value: object) -> bool:
    """Whether somewhere stands `47.0`: a whole number to JSON schemas, and none to a strict reader."""
    if isinstance(value, dict):
        return any(map(_has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(_has_whole_float, value))
    return isinstance(value, float) and value.is_integer()
