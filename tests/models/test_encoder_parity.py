"""Every encoder and head equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from cynosure.models.batch import Batch
from cynosure.models.brand import ModelKind
from cynosure.models.families.table import BRANDS
from tests.models.encoder_cases import CASES
from tests.models.encoder_mutants import FAULTS, SPEC_CHANGES, WEIGHT_CHANGES, mutant
from tests.models.encoder_oracle import (
    ENCODER_CASES,
    LENGTHS,
    TOLERANCE,
    answers,
    errors_of,
    gap,
    padded_batch,
    pair_of,
    peakedness,
)

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
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
    batch = Batch.pack([pair.texts[0]], type_ids=[pair.types[0]])
    assert gap(answers(broken, batch)[0], pair.expected[0]) > 2 * TOLERANCE


@pytest.mark.parametrize("name", ["bert", "modernbert", "modernbert-sequence-mean"])
def test_padding_that_is_seen_is_noticed(name: str) -> None:
    pair = pair_of(name)
    batch = padded_batch(pair)
    keys = replace(batch.plan.keys[0], is_pad=None)
    seen = replace(batch, plan=batch.plan.with_keys(keys))
    worst = max(map(gap, answers(pair.graph, seen, LENGTHS), pair.expected))
    assert worst > 10 * TOLERANCE


def test_every_fault_is_used() -> None:
    assert FAULTS.keys() <= CASES.keys()
    assert set().union(*FAULTS.values()) == {*SPEC_CHANGES, *WEIGHT_CHANGES}


def test_every_encoder_in_the_table_is_measured() -> None:
    families = ("Bert", "ModernBert")
    encoders = {name for name, brand in BRANDS.items() if brand.kind is ModelKind.ENCODER}
    assert {name for name in encoders if name.startswith(families)} == ENCODER_CASES.keys()
