"""Each step's lists follow from the seed and the step, and what is held out is in none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cynosure.core.errors import EmptyInput
from cynosure.train.pair_batches import CHUNK, MIXTURE, NUM_TEXTS, Lists, PairReader
from cynosure.train.pairs import ASKED, PairData
from tests.models.tiny_embedders import write_encoder
from tests.train.small_docs import small_pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PairData:
    return small_pairs(tmp_path_factory.mktemp("pairs"))


def test_steps_are_repeatable_in_any_order(data: PairData) -> None:
    one, two = Lists(data, 0), Lists(data, 0)
    later = two.of_step(7)
    assert [one.of_step(step) for step in range(8)][7] == later
    assert one.of_step(6) != later != Lists(data, 1).of_step(7)


def test_lists_are_full_and_a_third_has_no_answer(data: PairData) -> None:
    lists = Lists(data, 0).of_step(3)
    assert len(lists) == sum(share.count for share in MIXTURE)
    assert all(len(set(listed.texts)) == NUM_TEXTS for listed in lists)
    assert all(listed.is_right == tuple(sorted(listed.is_right, reverse=True)) for listed in lists)
    assert sum(not any(listed.is_right) for listed in lists) * 3 == len(lists)
    assert all(sum(listed.is_right) <= 1 for listed in lists if not listed.of_sentences)


def test_an_epoch_meets_every_phrase_that_is_not_held_out(data: PairData) -> None:
    lists = Lists(data, 0)
    wanted = {case.question for case in data.cases if case.kind == ASKED and not case.is_held_out}
    held_out = {case.question for case in data.cases if case.is_held_out}
    met = {
        listed.question
        for step in range(lists.steps_an_epoch)
        for listed in lists.of_step(step)
        if any(listed.is_right) and not listed.of_sentences
    }
    assert wanted <= met
    assert held_out
    assert not held_out & met


def test_a_kind_that_is_missing_is_named(data: PairData) -> None:
    with pytest.raises(EmptyInput, match="'asked'"):
        Lists(PairData(data.texts, tuple(case for case in data.cases if case.kind != ASKED)), 0)


def test_pairs_are_read_in_chunks_of_like_length(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    reader = PairReader(tmp_path, 24)
    pairs = [("the star", "sail " * (index % 40 + 1)) for index in range(2 * CHUNK + 1)]
    chunks = reader.read(pairs)
    assert [len(chunk.places) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert torch.cat([chunk.places for chunk in chunks]).sort().values.tolist() == list(range(len(pairs)))
    assert max(chunk.token_ids.shape[1] for chunk in chunks) == 24
    for chunk in chunks:
        assert bool(chunk.is_text[:, 0].all())
        # Padding is no text, and what is no text is padding.
        assert torch.equal(chunk.is_text, chunk.token_ids != 0)
        assert int(chunk.type_ids.max()) == 1
