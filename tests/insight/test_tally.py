"""Shares by part, and their mean over tokens: nothing is lost on the way."""

from __future__ import annotations

import pytest

from cynosure.insight.prompt_segments import PromptPart, PromptSegments
from cynosure.insight.tally import Tally, shares_by_part

SEGMENTS = PromptSegments.of(
    [PromptPart("a", "a", "user"), PromptPart("b", "b", "user")], [None, 0, 1, None], [None] * 4
)


def test_an_engine_s_numbers_get_their_names() -> None:
    shares = shares_by_part(SEGMENTS, (0.1, 0.2, 0.3, 0.15, 0.05), 0.2, 1.5)
    assert shares.masses == (0.3, 0.15)
    assert (shares.template_mass, shares.generated_mass, shares.entropy_bits) == (0.2, 0.05, 1.5)
    # A learned sink and the first token are told as one.
    assert shares.sink_mass == pytest.approx(0.3)


def test_each_token_counts_the_same() -> None:
    tally = Tally(2)
    assert tally.mean is None
    tally.add(shares_by_part(SEGMENTS, (0.0, 0.0, 1.0, 0.0, 0.0), 0.0, 0.0))
    tally.add(shares_by_part(SEGMENTS, (0.0, 0.5, 0.0, 0.5, 0.0), 0.0, 1.0))
    mean = tally.mean
    assert mean is not None
    assert mean.masses == (0.5, 0.25)
    assert (mean.template_mass, mean.entropy_bits, tally.num_tokens) == (0.25, 0.5, 2)


def test_numbers_of_other_parts_are_noticed() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        shares_by_part(SEGMENTS, (0.5, 0.5), 0.0, 0.0)
