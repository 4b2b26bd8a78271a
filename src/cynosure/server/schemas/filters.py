"""Shape filters on attributes of files, as OpenAI's clients send them. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from cynosure.retrieval.library import Comparison, Compound, Filter
from cynosure.server.schemas.wire import Text, Whole, WireRequest

MAX_ATTRIBUTES = 16
MAX_DEPTH = 4
MAX_COMPARISONS = 64

Finite = Annotated[float, Field(allow_inf_nan=False)]
AttributeText = Annotated[Text, Field(max_length=512)]
Attributes = Annotated[
    dict[Annotated[Text, Field(max_length=64)], AttributeText | bool | Whole | Finite],
    Field(max_length=MAX_ATTRIBUTES),
]


class ComparisonFilter(WireRequest):
    """One attribute against a value; `in` and `nin` take several."""

    key: Annotated[Text, Field(max_length=64)]
    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    value: (
        AttributeText
        | bool
        | Whole
        | Finite
        | Annotated[list[AttributeText | Whole | Finite], Field(max_length=MAX_COMPARISONS)]
    )

    @model_validator(mode="after")
    def _value_fits(self) -> ComparisonFilter:
        if isinstance(self.value, list) != (self.type in ("in", "nin")):
            raise ValueError("filters: in and nin take a list of values, and every other type takes one")
        if isinstance(self.value, bool) and self.type not in ("eq", "ne"):
            raise ValueError("filters: truth values have no order")
        return self

    @property
    def filter(self) -> Filter:
        """What the search is asked."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return Comparison(self.key, self.type, tuple(values))

    @property
    def depth(self) -> int:
        """How many compounds stand within each other, this included."""
        return 1

    @property
    def num_comparisons(self) -> int:
        """How many comparisons there are."""
        return 1


class CompoundFilter(WireRequest):
    """Several filters, all of which must admit a file, or any."""

    type: Literal["and", "or"]
    filters: Annotated[
        list[Annotated[ComparisonFilter | CompoundFilter, Field(discriminator="type")]],
        Field(min_length=1, max_length=MAX_COMPARISONS),
    ]

    @property
    def filter(self) -> Filter:
        """What the search is asked."""
        return Compound(self.type, tuple(one.filter for one in self.filters))

    @property
    def depth(self) -> int:
        """How many compounds stand within each other, this included."""
        return 1 + max(one.depth for one in self.filters)

    @property
    def num_comparisons(self) -> int:
        """How many comparisons there are."""
        return sum(one.num_comparisons for one in self.filters)


def _bounded(asked: ComparisonFilter | CompoundFilter) -> ComparisonFilter | CompoundFilter:
    if asked.depth > MAX_DEPTH or asked.num_comparisons > MAX_COMPARISONS:
        raise ValueError(
            f"filters: at most {MAX_COMPARISONS} comparisons, and {MAX_DEPTH} filters within each other"
        )
    return asked


Filters = Annotated[ComparisonFilter | CompoundFilter, Field(discriminator="type"), AfterValidator(_bounded)]
