from __future__ import annotations

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import ContiguousCache, LayerShape
from cynosure.core.errors import InputTooLong

SHAPES = [LayerShape(2, 4, 3), LayerShape(1, 6, 6)]


def numbered(layer: int, tokens: list[int]) -> tuple[Float[Tensor, "n h d"], Float[Tensor, "n h dv"]]:
    """Keys and values that say which token they are."""
    shape = SHAPES[layer]
    column = torch.tensor(tokens, dtype=torch.float32)[:, None, None]
    k = column.expand(-1, shape.num_kv_heads, shape.head_dim)
    return k + layer, -column.expand(-1, shape.num_kv_heads, shape.v_head_dim)


def write(cache: ContiguousCache, sequences: list[list[int]]) -> None:
    lens = [len(sequence) for sequence in sequences]
    for layer in range(len(SHAPES)):
        k, v = numbered(layer, [token for sequence in sequences for token in sequence])
        cache.write(layer, k, v, lens)
    cache.advance(lens)


def held(cache: ContiguousCache, layer: int) -> list[list[int]]:
    """The tokens that each sequence's rows stand for, by keys and by values."""
    k, v = cache.rows(layer)
    found = []
    for start, length in zip(cache.starts, cache.lengths, strict=True):
        by_key = [int(row[0, 0]) - layer for row in k[start : start + length]]
        assert by_key == [-int(row[0, 0]) for row in v[start : start + length]]
        found.append(by_key)
    return found


@pytest.fixture
def cache() -> ContiguousCache:
    cache = ContiguousCache(SHAPES, 3, 5, torch.float32)
    write(cache, [[10, 11], [20], [30, 31, 32]])
    return cache


@pytest.mark.parametrize("layer", [0, 1])
def test_tokens_stand_behind_those_before_them(cache: ContiguousCache, layer: int) -> None:
    write(cache, [[12], [21, 22, 23, 24], [33, 34]])
    assert held(cache, layer) == [[10, 11, 12], [20, 21, 22, 23, 24], [30, 31, 32, 33, 34]]


def test_a_cropped_token_was_never_there(cache: ContiguousCache) -> None:
    cache.crop([1, 1, 0])
    write(cache, [[15], [25], [35]])
    assert held(cache, 0) == [[10, 15], [20, 25], [35]]


@pytest.mark.parametrize("seqs", [[2], [2, 0], [], [0, 1, 2]])
def test_the_kept_go_on_as_before(cache: ContiguousCache, seqs: list[int]) -> None:
    cache.keep(seqs)
    write(cache, [[seq] for seq in seqs])
    whole = [[10, 11, 0], [20, 1], [30, 31, 32, 2]]
    assert held(cache, 1) == [whole[seq] for seq in seqs]


def test_too_many_tokens_are_refused(cache: ContiguousCache) -> None:
    cache.check_room([3, 4, 2])
    with pytest.raises(InputTooLong, match="sequence 2 would hold 6 tokens"):
        cache.check_room([3, 4, 3])
