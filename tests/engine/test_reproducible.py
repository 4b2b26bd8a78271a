"""A reproducible request gives its own bits on native kernels: in company, and after a preemption."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.cache.paged import bytes_per_block
from cynosure.engine import Finished, SamplingParams
from cynosure.kernels import why_none
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models import decoder_oracle

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

PARAMS = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True, logprobs=2)
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]


def answered(
    quantize: str | None, *, num_others: int, is_reproducible: bool = True
) -> tuple[list[float], int]:
    """Log-probabilities of an answer, and how often it was preempted, in a cache of eight pages."""
    model = load(decoder_oracle.pair_of("llama").folder, dtype="bfloat16", quantize=quantize)
    assert isinstance(model.graph, Decoder)
    page = bytes_per_block(model.graph.cache_shapes, model.dtype, SMALL.block_size)
    core, ear = new_core(model, replace(SMALL, kv_cache_bytes=8 * page)), Ear()
    assert not core._runner.refusal
    for other in range(num_others):
        core.add(ask(f"other{other}", [7 + other] * 9, params=PARAMS), ear)
    core.add(ask("it", PROMPT, params=PARAMS, priority=1, is_reproducible=is_reproducible), ear)
    run_to_end(core)
    end = ear.end("it")
    assert isinstance(end, Finished)
    assert end.report is not None
    return ear.logprobs("it"), end.report.num_preemptions


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_preemption_and_company_change_no_bit(quantize: str | None) -> None:
    alone, never = answered(quantize, num_others=0)
    crowd, preempted = answered(quantize, num_others=2)
    assert never == 0
    assert preempted > 0
    assert crowd == alone


def test_a_request_that_does_not_ask_for_it_may_change() -> None:
    """The positive control: products of several rows round otherwise."""
    alone, _ = answered(None, num_others=0, is_reproducible=False)
    crowd, _ = answered(None, num_others=2, is_reproducible=False)
    assert crowd != alone
