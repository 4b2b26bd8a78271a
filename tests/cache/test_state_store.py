"""States are where a whole pass put them, and nowhere before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.cache.state_store import LayerState, StatePath, StateShape, StateStore, bytes_per_slot

SHAPE = StateShape(tail=3, channels=5, heads=2, rows=4, columns=6)
SHAPES = (None, SHAPE, None, replace(SHAPE, tail=0))


def state_of(value: float, num: int, shape: StateShape = SHAPE) -> LayerState:
    empty = shape.empty(num, torch.bfloat16)
    return LayerState(empty.tail + value, empty.matrix + value)


def values(store: StateStore, layer: int, slots: list[int]) -> list[float]:
    found = store.read(layer, slots)
    return [float(matrix.max()) for matrix in found.matrix]


@pytest.fixture
def store() -> StateStore:
    """Three slots, in which every layer holds the slot's number."""
    store = StateStore(SHAPES, 3, torch.bfloat16)
    for layer in (1, 3):
        shape = SHAPES[layer]
        assert shape is not None
        for slot in range(3):
            store.put(layer, [slot], state_of(float(slot), 1, shape))
    store.put_lengths({0: 10, 1: 11, 2: 12})
    store.commit()
    return store


def test_sizes() -> None:
    matrix, tail = 2 * 4 * 6 * 4, 3 * 5
    assert SHAPE.num_bytes(torch.bfloat16) == matrix + tail * 2
    assert SHAPE.num_bytes(torch.float32) == matrix + tail * 4
    assert bytes_per_slot(SHAPES, torch.bfloat16) == 2 * matrix + tail * 2
    assert StateStore(SHAPES, 7, torch.bfloat16).num_bytes == 7 * (2 * matrix + tail * 2)


def test_what_is_put_is_there_after_commit_alone(store: StateStore) -> None:
    store.put(1, [2, 0], state_of(7.0, 2))
    store.put_lengths({2: 20, 0: 30})
    assert values(store, 1, [0, 1, 2]) == [0, 1, 2]
    assert store.lengths == [10, 11, 12]
    store.commit()
    assert values(store, 1, [0, 1, 2]) == [7, 1, 7]
    assert values(store, 3, [0, 1, 2]) == [0, 1, 2]
    assert store.lengths == [30, 11, 20]


def test_what_is_discarded_is_never_there(store: StateStore) -> None:
    store.put(1, [2], state_of(7.0, 1))
    store.put_lengths({2: 20})
    store.discard()
    store.commit()
    assert values(store, 1, [2]) == [2]
    assert store.lengths == [10, 11, 12]


def test_a_copy_is_of_all_layers_and_apart(store: StateStore) -> None:
    store.copy(2, 0)
    store.put(3, [2], state_of(9.0, 1, replace(SHAPE, tail=0)))
    store.commit()
    assert [values(store, layer, [0]) for layer in (1, 3)] == [[2], [2]]
    assert store.lengths == [12, 11, 12]


def test_kept_slots_close_up(store: StateStore) -> None:
    store.keep([2, 1])
    assert values(store, 1, [0, 1]) == [2, 1]
    assert store.lengths[:2] == [12, 11]


def test_states_join_and_come_apart() -> None:
    joined = LayerState.joined([state_of(1.0, 1), state_of(2.0, 2)])
    assert [float(one.max()) for one in joined.of([2, 0]).matrix] == [2, 1]
    assert joined.tail.shape == (3, 3, 5)


def test_a_path_names_a_slot_alone_by_default() -> None:
    assert StatePath(4).copies == ()


def test_states_that_are_read_stay_as_they_are_until_a_commit(store: StateStore) -> None:
    """Slots that follow each other are read without a copy; a pass changes what it makes of them alone."""
    read = store.read(1, [1, 2])
    store.put(1, [1], state_of(7.0, 1))
    assert [float(one.max()) for one in read.matrix] == [1, 2]
    assert read.matrix.data_ptr() == store.read(1, [1]).matrix.data_ptr()
    assert [float(one.max()) for one in store.read(1, [2, 0]).matrix] == [2, 0]
