"""Test which files a filter admits."""

from __future__ import annotations

import pytest

from cynosure.retrieval.library import Comparison, Compound, Filter
from cynosure.retrieval.library.filters import Operator
from cynosure.retrieval.library.records import Attribute

FILE: dict[str, Attribute] = {"year": 2024, "price": 1.5, "by": "anna", "is_draft": True}


@pytest.mark.parametrize(
    ("key", "operator", "values", "is_admitted"),
    [
        ("year", "eq", (2024,), True),
        ("year", "eq", (2024.0,), True),
        ("year", "eq", ("2024",), False),
        ("year", "ne", (2023,), True),
        ("year", "ne", (2024,), False),
        ("year", "gt", (2024,), False),
        ("year", "gte", (2024,), True),
        ("year", "lt", (2024.5,), True),
        ("year", "lte", (2023,), False),
        ("by", "gt", ("adam",), True),
        ("by", "gt", (1,), False),
        ("by", "lt", (1,), False),
        ("by", "in", ("ben", "anna"), True),
        ("by", "nin", ("ben", "anna"), False),
        ("by", "nin", ("ben",), True),
        ("is_draft", "eq", (True,), True),
        ("is_draft", "eq", (1,), False),
        ("is_draft", "gte", (False,), False),
        ("absent", "eq", ("x",), False),
        ("absent", "in", ("x",), False),
        ("absent", "lt", (1,), False),
        ("absent", "ne", ("x",), True),
        ("absent", "nin", ("x",), True),
    ],
)
def test_comparisons(key: str, operator: Operator, values: tuple[Attribute, ...], is_admitted: bool) -> None:
    assert Comparison(key, operator, values).admits(FILE) is is_admitted


def test_compounds() -> None:
    yes: Filter = Comparison("year", "eq", (2024,))
    no: Filter = Comparison("year", "eq", (1,))
    assert Compound("and", (yes, yes)).admits(FILE)
    assert not Compound("and", (yes, no)).admits(FILE)
    assert Compound("or", (no, yes)).admits(FILE)
    assert not Compound("or", (no, Compound("and", (yes, no)))).admits(FILE)
