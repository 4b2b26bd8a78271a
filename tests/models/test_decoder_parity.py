"""Every decoder equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.models.brand import ModelKind
from cynosure.models.families.table import BRANDS
from tests.models.brand_oracle import BRAND_CASES
from tests.models.decoder_cases import CASES
from tests.models.decoder_mutants import FAULTS, SPEC_CHANGES, WEIGHT_CHANGES, mutant
from tests.models.decoder_oracle import (
    DECODER_CASES,
    TOLERANCE,
    errors_of,
    gap,
    logits_of,
    make_pair,
    oracle_padded,
    pair_of,
    peakedness,
)
from tests.models.mixer_oracle import MIXER_CASES
from tests.models.moe_oracle import MOE_CASES

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> object:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(pair_of(name))
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", CASES)
def test_attention_is_peaked_so_that_wrong_scores_show(name: str) -> None:
    assert 0.05 < peakedness(pair_of(name)) < 0.75


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]])
def test_a_fault_is_noticed(name: str, fault: str) -> None:
    pair = pair_of(name)
    broken = mutant(pair.graph, fault)
    assert gap(logits_of(broken, pair.prompts[0]), pair.expected[0]) > 10 * TOLERANCE


def test_every_case_and_every_fault_is_used() -> None:
    assert FAULTS.keys() == CASES.keys()
    assert set().union(*FAULTS.values()) == {*SPEC_CHANGES, *WEIGHT_CHANGES}


@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom"])
def test_the_oracle_pads_as_we_think(name: str) -> None:
    pair = pair_of(name)
    for row, alone in zip(oracle_padded(pair), pair.expected, strict=True):
        assert gap(row, alone) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "declared"), [("llama-dynamic", 44), ("phi3-long", None), ("phi3-short", 90)]
)
def test_scalings_by_length_agree_where_the_length_is_the_declared_one(
    name: str, declared: int | None
) -> None:
    pair = make_pair(replace(CASES[name], pinned=None, max_model_len=declared))
    assert gap(logits_of(pair.graph, pair.prompts[0]), pair.expected[0]) <= TOLERANCE


@pytest.mark.parametrize("name", ["llama-dynamic", "phi3-long"])
def test_scalings_by_length_differ_elsewhere(name: str) -> None:
    """The oracle rotates a short prompt otherwise than a long one; we decide once, to keep keys."""
    pair = make_pair(replace(CASES[name], pinned=None))
    assert gap(logits_of(pair.graph, pair.prompts[1]), pair.expected[1]) > 10 * TOLERANCE


#: Decoders in files of both texts and images, which `test_text_half.py` holds against those alone.
TEXT_HALVES = (
    "Gemma3nForConditionalGeneration",
    "Llama4ForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
)


def test_every_decoder_in_the_table_is_measured() -> None:
    decoders = {name for name, brand in BRANDS.items() if brand.kind is ModelKind.DECODER}
    # MPT has two names, one in its authors' files and one in transformers'.
    measured = {*DECODER_CASES, *MOE_CASES, *BRAND_CASES, *MIXER_CASES}
    assert decoders == {*measured, "MPTForCausalLM", *TEXT_HALVES}
