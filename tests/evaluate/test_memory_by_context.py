"""Windows bound what a sequence holds: short runs of `evals/memory_by_context.py`, and its picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from evals.memory_by_context import BLOCK_SIZE, CHUNK, POLICIES, WINDOW, graph_of, measure, most_held

DOCS = Path(__file__).parents[2] / "docs"


def test_windows_are_bounded_and_everything_else_grows() -> None:
    """The first length is longer than a window and a chunk."""
    found = measure(288, ["full", "window", "mix"])
    assert found["window"]["n1"] == found["window"]["n4"]
    bound = -(-WINDOW // BLOCK_SIZE) + -(-CHUNK // BLOCK_SIZE) + 1
    page = found["full"]["n1"] // (288 // BLOCK_SIZE + 1)
    assert found["window"]["n4"] <= bound * page
    assert found["full"]["n4"] - found["full"]["n1"] == 2 * (found["mix"]["n4"] - found["mix"]["n1"]) > 0


def test_states_do_not_grow() -> None:
    found = measure(64, ["state", "hybrid", "full"])
    assert found["state"]["n1"] == found["state"]["n4"] > 0
    # One of six layers attends; a page more than the prompt fills is taken for the answer.
    grown, whole = (found[name]["n4"] - found[name]["n1"] for name in ("hybrid", "full"))
    assert 6 * grown == whole > 0
    assert found["hybrid"]["n1"] > found["state"]["n1"]


@pytest.mark.parametrize("name", ["full_int8", "latent", "cross"])
def test_the_other_policies_are_measured_too(name: str) -> None:
    graph = graph_of(POLICIES[name])
    assert most_held(graph, POLICIES[name], 96) > most_held(graph, POLICIES[name], 32) > 0


def test_the_picture_shows_the_result() -> None:
    spec = importlib.util.spec_from_file_location("draw_memory", DOCS / "draw_memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.LINES.keys() == POLICIES.keys()
    assert module.PICTURE.read_text(encoding="utf-8") == module.picture(), "it is stale; run make docs"
