"""The page of goals is that of the results, and a number that misses its goal is bold."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def list_goals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_goals", DOCS / "list_goals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where its dataclasses look their own module up.
    monkeypatch.setitem(sys.modules, "list_goals", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_results(list_goals: ModuleType) -> None:
    assert list_goals.PAGE.read_text(encoding="utf-8") == list_goals.page(), "run `make docs`"


def test_a_number_that_misses_its_goal_is_bold(list_goals: ModuleType) -> None:
    assert list_goals.shown(1.99, 2.0) == "**1.99**"
    assert list_goals.shown(2.0, 2.0) == "2.00"
    assert list_goals.shown(1.2, 1.15, is_most=True) == "**1.20**"
    assert list_goals.shown(0.3, None) == "0.30"
    assert list_goals.shown(None, 2.0) == list_goals.MISSING


def test_goals_differ_by_model(list_goals: ModuleType) -> None:
    rows = {"smollm2_135m_int8": {"ratio": 1.5}, "qwen2_5_0_5b_int8": {"ratio": 1.5}}
    line = next(row for row in list_goals.inside({"decode_x1_at_512": rows}) if "behind 512" in row)
    assert "| –, **1.50**, – | –, 1.50, – | –, –, – |" in line
