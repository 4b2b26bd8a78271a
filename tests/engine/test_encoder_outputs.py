"""Outputs are shared by equal keys alone, kept while there is room, and never taken from a reader."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.cache import CacheKey, PagePool
from cynosure.engine.encoder_outputs import EncoderOutput, EncoderOutputs, key_of_input
from cynosure.engine.features import Features

A = CacheKey(tenant="a", model="m", dtype="float32")
IDS = (5, 6, 7)


@pytest.mark.parametrize(
    "other",
    [
        key_of_input(replace(A, tenant="b"), IDS),
        key_of_input(replace(A, model="n"), IDS),
        key_of_input(replace(A, dtype="bfloat16"), IDS),
        key_of_input(replace(A, is_reproducible=True), IDS),
        key_of_input(A, (5, 6, 8)),
        key_of_input(A, (5, 6)),
        key_of_input(A, (5, 6, 7, 0)),
    ],
)
def test_whatever_differs_is_not_found(other: CacheKey) -> None:
    outputs = EncoderOutputs(PagePool(8), 2)
    mine = key_of_input(A, IDS)
    assert outputs.add(mine, 3) is not None
    assert outputs.read(mine, 3) is not None
    assert outputs.read(other, 3) is None
    assert outputs.read(None, 3) is None
    assert outputs.cost(mine, 3) == (0, 0)
    assert outputs.cost(other, 3) == (3, 2)
    assert (outputs.num_sought, outputs.num_found) == (6, 3)


def test_features_that_differ_in_a_number_or_in_their_shape_are_not_found() -> None:
    numbers = np.arange(12, dtype=np.float32).reshape(3, 4)
    mine, turned, other = numbers.copy(), numbers.reshape(4, 3), numbers.copy()
    other[2, 3] = 12.5
    key = key_of_input(A, Features.of(mine))
    assert key == key_of_input(A, Features.of(numbers))
    assert key not in {key_of_input(A, Features.of(one)) for one in (turned, other)}


def test_an_output_that_was_never_written_is_gone_with_its_reader() -> None:
    pool = PagePool(4)
    outputs = EncoderOutputs(pool, 2)
    key = key_of_input(A, IDS)
    output = outputs.add(key, 3)
    assert output is not None
    outputs.release(output)
    assert outputs.read(key, 3) is None
    assert pool.num_free == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["read", "release", "room"])), max_size=60))
def test_pages_are_accounted_for_and_readers_keep_theirs(acts: list[tuple[int, str]]) -> None:
    pool = PagePool(6)
    outputs = EncoderOutputs(pool, 2)
    reading: dict[int, list[EncoderOutput]] = {}
    for number, act in acts:
        tokens = tuple(range(number + 1))
        key = key_of_input(A, tokens)
        if act == "read":
            output = outputs.read(key, len(tokens)) or outputs.add(key, len(tokens))
            if output is not None:
                output.is_written = True
                assert output.key == key
                reading.setdefault(number, []).append(output)
        elif act == "release" and reading.get(number):
            outputs.release(reading[number].pop())
        elif act == "room":
            before = pool.num_free + outputs.num_idle_blocks
            assert outputs.make_room(number) == (before >= number)
            assert pool.num_free >= number or before < number
        held = {id(one): one for ones in reading.values() for one in ones}
        assert all(outputs.read(one.key, 1) is one for one in held.values())
        for one in held.values():
            outputs.release(one)
        pool.check(outputs.tables)
        busy = sum(len(one.blocks) for one in held.values())
        assert pool.num_free + outputs.num_idle_blocks + busy == 6
