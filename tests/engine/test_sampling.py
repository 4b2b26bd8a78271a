"""What may be asked of the sampler."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cynosure.core.errors import InputError
from cynosure.engine.sampling import SamplingParams

PARAMS = SamplingParams(8)


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("max_tokens", -1, "0"),
        ("min_tokens", -1, "0"),
        ("min_tokens", 9, "max_tokens, 8"),
        ("temperature", -0.1, "at least 0"),
        ("temperature", math.inf, "finite"),
        ("temperature", math.nan, "finite"),
        ("top_k", 0, "1"),
        ("top_p", 1.01, "[0, 1]"),
        ("top_p", math.nan, "[0, 1]"),
        ("min_p", -0.01, "[0, 1]"),
        ("typical_p", 2.0, "[0, 1]"),
        ("repetition_penalty", 0.0, "0.01"),
        ("repetition_penalty", 5e-324, "0.01"),
        ("repetition_penalty", math.nan, "0.01"),
        ("repetition_penalty", math.inf, "100"),
        ("presence_penalty", 2.1, "[-2, 2]"),
        ("frequency_penalty", -2.1, "[-2, 2]"),
        ("seed", -1, "0"),
        ("seed", 2**63, str(2**63 - 1)),
        ("logprobs", 21, "20"),
        ("prompt_logprobs", -1, "0"),
    ],
)
def test_what_is_out_of_range_is_named_with_value_and_limit(field: str, value: float, limit: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(PARAMS, **{field: value})
    assert str(caught.value).startswith(f"{field} is {value}; ")
    assert limit in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1),
        ("min_tokens", 8),
        ("temperature", 0.0),
        ("top_p", 0.0),
        ("top_p", 1.0),
        ("min_p", 1.0),
        ("seed", 2**63 - 1),
        ("logprobs", 0),
        ("logprobs", 20),
        ("presence_penalty", -2.0),
        ("logit_bias", ((0, 100.0), (1, -100.0))),
    ],
)
def test_the_limits_themselves_are_fine(field: str, value: object) -> None:
    replace(PARAMS, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("logit_bias", ((-1, 1.0),), "token id -1"),
        ("logit_bias", ((3, 1.0), (3, 2.0)), "token id 3 more than once"),
        ("logit_bias", ((3, 100.5),), r"token id 3 is 100.5; it must be in \[-100, 100\]"),
        ("logit_bias", ((3, math.nan),), "is nan"),
        ("stop_token_ids", (4, -2), "token id -2"),
    ],
)
def test_token_ids_are_checked(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PARAMS, **{field: value})


@pytest.mark.parametrize("field", ["logit_bias", "stop_token_ids"])
def test_a_token_outside_the_vocabulary_is_named(field: str) -> None:
    params = replace(PARAMS, **{field: ((100, 1.0),) if field == "logit_bias" else (100,)})
    params.check_vocabulary(101)
    with pytest.raises(InputError, match=rf"{field} holds token id 100; the vocabulary is 0\.\.99"):
        params.check_vocabulary(100)


def test_ends_are_stop_tokens_and_those_of_the_checkpoint_unless_ignored() -> None:
    params = replace(PARAMS, stop_token_ids=(1, 2))
    assert params.ends((9,)) == {1, 2, 9}
    assert replace(params, ignore_eos=True).ends((9,)) == {1, 2}
