"""Shape how tokens are to be chosen, shared by every route that continues text. Computes nothing.

The first group is OpenAI's, the second what vLLM added beside it, under the same names.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from cynosure.engine.constraints import Constraint
from cynosure.engine.sampling import (
    MAX_REPETITION_PENALTY,
    MAX_SEED,
    MIN_REPETITION_PENALTY,
    SamplingParams,
)
from cynosure.server.schemas.constraints import Choices, ResponseFormat, Schema, StructuredOutputs, the_one
from cynosure.server.schemas.wire import Count0, Count1, Text, WireRequest

MAX_BIASES = 1024
#: JSON has no keys but texts.
_DIGITS = "^(0|[1-9][0-9]{0,8})$"


def _number(key: object) -> object:
    return int(key) if isinstance(key, str) and re.search(_DIGITS, key) else key


TokenId = Count0
TokenKey = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]


_SAME_NAMES = {
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
}


class SamplingFields(WireRequest):
    """Fields of a request that say how to choose; what is left out is neutral."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: (
        Annotated[
            dict[TokenKey, Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=MAX_BIASES, json_schema_extra={"propertyNames": {"pattern": _DIGITS}}),
        ]
        | None
    ) = None

    top_k: Count1 | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repetition_penalty: (
        Annotated[float, Field(ge=MIN_REPETITION_PENALTY, le=MAX_REPETITION_PENALTY)] | None
    ) = None
    min_tokens: Count0 | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None

    max_tokens: Count1 | None = None

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: Text | None = None
    guided_choice: Choices | None = None
    guided_grammar: Text | None = None

    def sampling(self, default_max_tokens: int) -> SamplingParams:
        """What the engine is asked.

        Raises:
            InputError: fields that exclude each other.
        """
        given = self.model_dump(include=_SAME_NAMES, exclude_none=True)
        return SamplingParams(
            max_tokens=default_max_tokens if self.max_tokens is None else self.max_tokens,
            # Seeds of either sign are one protocol's; ours start at 0.
            seed=None if self.seed is None else self.seed % (MAX_SEED + 1),
            logit_bias=tuple((self.logit_bias or {}).items()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            constraint=self._constraint,
            **given,
        )

    @property
    def further_constraints(self) -> list[Constraint]:
        """What fields of one route say of the answer's form."""
        return []

    @property
    def _constraint(self) -> Constraint | None:
        guided = {
            "json": self.guided_json,
            "regex": self.guided_regex,
            "choice": self.guided_choice,
            "grammar": self.guided_grammar,
        }
        found = StructuredOutputs.model_validate(guided).all()
        if self.structured_outputs is not None:
            found += self.structured_outputs.all()
        asked = None if self.response_format is None else self.response_format.constraint
        found += [] if asked is None else [asked]
        return the_one(found + self.further_constraints)
