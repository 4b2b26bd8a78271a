from __future__ import annotations

import inspect
import logging

import pytest

from cynosure.core import errors as tree
from cynosure.server.errors import STATUS, body_of, code_of

CLASSES = [cls for _, cls in inspect.getmembers(tree, inspect.isclass) if issubclass(cls, tree.CynosureError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_failure_of_the_tree_has_a_status_and_keeps_its_words(cls: type[tree.CynosureError]) -> None:
    status, body = body_of(cls("what, got, limit, remedy"))
    assert status in {400, 401, 403, 404, 429, 500, 503}
    assert body["error"]["message"] == "what, got, limit, remedy"
    assert body["error"]["code"] == code_of(cls("x"))
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (tree.InputTooLong("x"), 400, "input_too_long"),
        (tree.NotFound("x"), 404, "not_found"),
        (tree.IndexFault("x"), 503, "index_fault"),
        (tree.CheckpointCorrupt("x"), 500, "checkpoint_corrupt"),
    ],
)
def test_the_nearest_class_decides(failure: tree.CynosureError, status: int, code: str) -> None:
    assert body_of(failure)[0] == status
    assert body_of(failure)[1]["error"]["code"] == code


def test_the_inside_of_a_stranger_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status, body = body_of(KeyError("a secret"))
    assert status == 500
    assert "a secret" not in str(body)
    assert "a secret" in caplog.text


def test_the_root_is_mapped() -> None:
    """Without this, a new class of the tree could fall through."""
    assert tree.CynosureError in STATUS
