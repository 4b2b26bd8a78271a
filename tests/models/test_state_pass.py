"""Packed tokens go through the states of their own sequences, wherever they are cut."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.cache import LayerState, StatePath, StateShape, StateStore
from cynosure.models.batch import Batch
from cynosure.models.state_pass import StatePass

SHAPE = StateShape(tail=1, channels=1, heads=1, rows=1, columns=1)


def running_sums(x: Tensor, state: LayerState, is_start: bool) -> tuple[Tensor, LayerState]:
    """Every token reads the sum up to itself; the tail is the last one; a start adds a thousand."""
    sums = state.matrix[:, :, 0, 0].unsqueeze(1) + x.cumsum(1) + 1000.0 * is_start
    return sums, LayerState(x[:, -1:], sums[:, -1:].unsqueeze(-1))


def through(
    tokens: list[list[int]], past: list[int], store: StateStore | None, paths: list[StatePath] | None
) -> list[float]:
    batch = replace(Batch.pack(tokens, past_lens=past), states=None if paths is None else tuple(paths))
    inputs = batch.token_ids.float().unsqueeze(-1)
    found = StatePass(batch, store, paths).run(0, SHAPE, inputs, running_sums)
    if store is not None:
        store.commit()
    return found.flatten().tolist()


def held(store: StateStore, slot: int) -> float:
    return float(store.read(0, [slot]).matrix)


def test_sequences_of_any_length_in_one_pass() -> None:
    store = StateStore([SHAPE], 4, torch.float32)
    assert through([[1, 2, 3], [5]], [0, 0], store, [StatePath(2), StatePath(0)]) == [1001, 1003, 1006, 1005]
    found = through([[10], [7, 8], [1], [1]], [1, 3, 0, 0], store, [StatePath(slot) for slot in (0, 2, 1, 3)])
    assert found == [1015, 1013, 1021, 1001, 1001]
    assert [held(store, slot) for slot in range(4)] == [1015, 1001, 1021, 1001]
    assert store.lengths == [2, 1, 5, 1]


@pytest.mark.parametrize("cuts", [(), (1,), (3,), (4,), (1, 3), (2, 4)])
def test_copies_hold_what_was_there_at_the_cut(cuts: tuple[int, ...]) -> None:
    store = StateStore([SHAPE], 4, torch.float32)
    path = StatePath(0, tuple((cut, 1 + place) for place, cut in enumerate(cuts)))
    assert through([[9], [1, 2, 3, 4]], [0, 0], store, [StatePath(3), path]) == [1009, 1001, 1003, 1006, 1010]
    assert held(store, 0) == 1010
    for place, cut in enumerate(cuts):
        assert held(store, 1 + place) == 1000 + sum(range(cut + 1))
        assert store.lengths[1 + place] == cut


def test_without_a_store_nothing_is_kept() -> None:
    assert through([[1, 2], [3]], [0, 0], None, None) == [1001, 1003, 1003]


@pytest.mark.parametrize("on_left", [True, False])
def test_padding_goes_through_no_state(on_left: bool) -> None:
    batch = Batch.pad([[1, 2, 3], [4]], 99, on_left=on_left)
    found = StatePass(batch, None, None).run(0, SHAPE, batch.token_ids.float().unsqueeze(-1), running_sums)
    one = [0.0, 0.0, 1004.0] if on_left else [1004.0, 0.0, 0.0]
    assert found.flatten().tolist() == [1001, 1003, 1006, *one]


def test_a_state_of_another_length_is_noticed() -> None:
    store = StateStore([SHAPE], 1, torch.float32)
    through([[1, 2]], [0], store, [StatePath(0)])
    with pytest.raises(AssertionError, match="has seen 2 tokens; 3 were before"):
        through([[1]], [3], store, [StatePath(0)])
