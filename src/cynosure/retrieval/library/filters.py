"""Decide by its attributes whether a file is searched. Knows nothing of files or requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cynosure.retrieval.library.records import Attribute

Operator: TypeAlias = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]

_ORDERS: Mapping[str, Callable[[float], bool]] = {
    "gt": lambda sign: sign > 0,
    "gte": lambda sign: sign >= 0,
    "lt": lambda sign: sign < 0,
    "lte": lambda sign: sign <= 0,
}


@dataclass(frozen=True)
class Comparison:
    """One attribute against a value, or against several for `in` and `nin`.

    A file that lacks the attribute is let through by `ne` and `nin` alone. Values of different types are
    unequal, and have no order; truth values have none at all.
    """

    key: str
    operator: Operator
    values: tuple[Attribute, ...]

    def admits(self, attributes: Mapping[str, Attribute]) -> bool:
        """Whether a file with these attributes is searched."""
        is_negated = self.operator in ("ne", "nin")
        if self.key not in attributes:
            return is_negated
        given = attributes[self.key]
        if self.operator in _ORDERS:
            sign = _compared(given, self.values[0])
            return sign is not None and _ORDERS[self.operator](sign)
        return any(_equal(given, value) for value in self.values) != is_negated


@dataclass(frozen=True)
class Compound:
    """Several filters: all of them must admit a file (`and`), or any (`or`)."""

    operator: Literal["and", "or"]
    filters: tuple[Filter, ...]

    def admits(self, attributes: Mapping[str, Attribute]) -> bool:
        """Whether a file with these attributes is searched."""
        combine = all if self.operator == "and" else any
        return combine(one.admits(attributes) for one in self.filters)


Filter: TypeAlias = Comparison | Compound


def _is_number(value: Attribute) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(one: Attribute, other: Attribute) -> bool:
    # To Python 1 equals True; whoever wrote a truth value meant none of the numbers.
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _compared(one: Attribute, other: Attribute) -> int | None:
    """The sign of the difference; None where there is no order."""
    if isinstance(one, str) and isinstance(other, str):
        return (one > other) - (one < other)
    if _is_number(one) and _is_number(other):
        return (float(one) > float(other)) - (float(one) < float(other))
    return None
