"""Pages of int8 codes give what they give alone, whoever shares them, and stay near what numbers give.

Sharing, chunks and preemption change rounding only; where that moves a number over the edge between two
codes, the change is a code, so that the bar is wider than for pages of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cynosure.attention.mla import MlaReading
from cynosure.core.errors import UnknownOption
from tests.models import decoder_oracle, moe_oracle
from tests.models.decoder_oracle import Pair
from tests.models.paged_runner import CHECKS, PagedRunner, Scene, alone, difference

SAME, NEAR = 2e-3, 0.08


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pair_of(name: str) -> Pair:
    return (moe_oracle if name in moe_oracle.CASES else decoder_oracle).pair_of(name)


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom", "gpt-oss", "deepseek-plain"])
def test_who_shares_pages_changes_no_more_than_a_code(name: str, dtype: str) -> None:
    scene = Scene.of(pair_of(name), dtype)
    errors = {}
    for check, measure in CHECKS.items():
        fresh = scene.anew()
        errors[check] = measure(fresh)
        fresh.runner.tree.pool.check()
    assert max(errors.values()) <= SAME, errors


@pytest.mark.parametrize("reading", MlaReading)
def test_latent_rows_in_codes_read_alike_both_ways(reading: MlaReading) -> None:
    pair = pair_of("deepseek-plain")
    read = Scene.of(moe_oracle.reading(pair, reading), "int8")
    assert max(map(difference, read.expected, Scene.of(pair, "int8").expected)) <= SAME


@pytest.mark.parametrize(("dtype", "near"), [("int8", NEAR), ("bfloat16", NEAR / 2)])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "bloom"])
def test_logits_move_little_and_do_move(name: str, dtype: str, near: float) -> None:
    """The tests' models have peaked scores, which show an error tenfold."""
    pair = pair_of(name)
    scene = Scene.of(pair, dtype)
    moved = max(
        difference(ours, alone(pair.graph, prompt))
        for ours, prompt in zip(scene.expected, pair.prompts, strict=True)
    )
    assert 1e-4 < moved < near


def test_a_scale_that_is_lost_is_noticed() -> None:
    pair = pair_of("llama")
    runner = PagedRunner(pair.graph, "int8")
    line = runner.line()
    runner.step((line, pair.prompts[0][:30]))
    expected = runner.alone(pair.prompts[0])[30:]
    scales = runner.cache.scales(1)
    assert scales is not None
    scales[0][line.pages.blocks[1]] *= 2
    assert difference(runner.step((line, pair.prompts[0][30:]))[0], expected) > 10 * SAME


def test_there_is_no_cache_of_four_bits() -> None:
    with pytest.raises(UnknownOption, match="auto, bfloat16, float32, int8"):
        PagedRunner(pair_of("llama").graph, "int4")
