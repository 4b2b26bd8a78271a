"""Check every primitive mask against a loop over cells, and its block map against its cells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Int8
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cynosure.attention.grid import Grid
from cynosure.attention.masks import (
    Blocks,
    Causal,
    Chunk,
    Cover,
    Dilated,
    Document,
    Full,
    Global,
    Mask,
    Pad,
    Prefix,
    Random,
    Tree,
    Window,
)
from cynosure.attention.masks.block_map import Tiling
from cynosure.core.errors import AttentionError
from tests.attention.mask_cases import PRIMITIVES, grids, lies, naive, ordinary_grid, primitives, true_covers

BLOCKS = st.integers(1, 9)


@given(primitives, grids())
@settings(max_examples=300)
def test_a_primitive_allows_what_its_loop_allows(mask: Mask, grid: Grid) -> None:
    assert torch.equal(mask.allowed(grid), naive(mask, grid))


@given(primitives, grids(), BLOCKS, BLOCKS)
@settings(max_examples=300)
def test_a_block_map_never_lies(mask: Mask, grid: Grid, q_block: int, kv_block: int) -> None:
    covers = mask.block_map(grid, q_block, kv_block)
    true = true_covers(mask.allowed(grid), q_block, kv_block)
    rows, columns = grid.shape
    assert covers.dtype == torch.int8
    assert covers.shape == (-(-rows // q_block), -(-columns // kv_block))
    assert lies(covers.tolist(), true) == []


@pytest.mark.parametrize("mask", PRIMITIVES, ids=repr)
@pytest.mark.parametrize(("num_q", "num_keys"), [(31, 31), (9, 31), (1, 31), (24, 24), (1, 1)])
def test_a_block_map_is_exact_on_ordinary_layouts(mask: Mask, num_q: int, num_keys: int) -> None:
    grid = ordinary_grid(num_q, num_keys)
    for q_block in (1, 3, 8, 40):
        for kv_block in (1, 4, 7, 40):
            true = true_covers(mask.allowed(grid), q_block, kv_block)
            assert mask.block_map(grid, q_block, kv_block).tolist() == true


@given(primitives, grids(), st.data())
@settings(max_examples=150)
def test_a_tile_of_the_cells_is_the_cells_of_the_tile(mask: Mask, grid: Grid, data: st.DataObject) -> None:
    num_rows, num_columns = grid.shape
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, num_rows), st.integers(0, num_rows))))
    left, right = sorted(data.draw(st.tuples(st.integers(0, num_columns), st.integers(0, num_columns))))
    tile = grid.tile(slice(top, bottom), slice(left, right))
    assert torch.equal(mask.allowed(tile), mask.allowed(grid)[top:bottom, left:right])
    true = true_covers(mask.allowed(tile), 3, 2)
    assert lies(mask.block_map(tile, 3, 2).tolist(), true) == []


@pytest.mark.parametrize("mask", PRIMITIVES, ids=repr)
def test_narrow_integers_give_the_same(mask: Mask) -> None:
    wide = ordinary_grid(20, 31)
    narrow = Grid(**{name: _narrowed(value) for name, value in vars(wide).items()})
    assert narrow.q_positions.dtype == torch.int32
    assert torch.equal(mask.allowed(narrow), mask.allowed(wide))
    assert torch.equal(mask.block_map(narrow, 4, 4), mask.block_map(wide, 4, 4))


def _narrowed(value: object) -> object:
    return value.int() if isinstance(value, Tensor) and value.dtype == torch.int64 else value


@pytest.mark.parametrize(
    ("mask", "same"),
    [
        (Window(64), Full()),
        (Chunk(64), Full()),
        (Global(64), Full()),
        (Blocks(8, 9), Full()),
        (Dilated(6, 1), Window(6)),
        (Blocks(5, 0), Chunk(5)),
        (Causal() & Random(4, 99, 3), Causal()),
        (Random(4, 99, 3, is_causal=False), Full()),
        (Causal() & Tree(), Tree()),
    ],
    ids=repr,
)
def test_a_mask_that_forbids_nothing_more_is_the_other(mask: Mask, same: Mask) -> None:
    grid = ordinary_grid(40, 40)
    assert torch.equal(mask.allowed(grid), same.allowed(grid))


# Positive controls: each wrong mask must be found by the comparison that the tests above rest on.


@dataclass(frozen=True, repr=False)
class _OneTooWide(Window):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        return Window(self.size + 1).allowed(grid)


@dataclass(frozen=True, repr=False)
class _Strict(Causal):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        return grid.k_positions[None, :] < grid.q_positions[:, None]


@dataclass(frozen=True, repr=False)
class _KeysOnly(Global):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        return (grid.k_positions < self.size).expand(grid.shape)


@dataclass(frozen=True, repr=False)
class _NoSpanIsOne(Prefix):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        assert grid.q_spans is not None
        assert grid.k_spans is not None
        return grid.q_spans[:, None] == grid.k_spans[None, :]


@dataclass(frozen=True, repr=False)
class _OtherSeed(Random):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        return Random(self.size, self.num_blocks, self.seed + 1).allowed(grid)


@dataclass(frozen=True, repr=False)
class _ChainOnly(Tree):
    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        assert grid.q_nodes is not None
        return torch.arange(grid.shape[1])[None, :] <= grid.q_nodes[:, None]


WRONG = (_OneTooWide(5), _Strict(), _KeysOnly(3), _NoSpanIsOne(), _OtherSeed(3, 2, 7), _ChainOnly())


@pytest.mark.parametrize("mask", WRONG, ids=lambda mask: type(mask).__name__)
def test_a_wrong_mask_is_found(mask: Mask) -> None:
    grid = ordinary_grid(31, 31)
    assert grid.tree_parents is not None
    grid.tree_parents[20] = 15
    assert not torch.equal(mask.allowed(grid), naive(mask, grid))


@dataclass(frozen=True, repr=False)
class _BoldCausal(Causal):
    def covers(self, tiling: Tiling) -> Int8[Tensor, "q_blocks kv_blocks"]:
        q, k = tiling.q_positions, tiling.k_positions
        return tiling.covers(k.low <= q.low, k.high <= q.low)


@dataclass(frozen=True, repr=False)
class _BoldWindow(Window):
    def covers(self, tiling: Tiling) -> Int8[Tensor, "q_blocks kv_blocks"]:
        return Window(self.size + 1).covers(tiling)


@pytest.mark.parametrize("mask", [_BoldCausal(), _BoldWindow(5)], ids=lambda mask: type(mask).__name__)
def test_a_lying_block_map_is_found(mask: Mask) -> None:
    grid = ordinary_grid(31, 31)
    assert lies(mask.block_map(grid, 4, 3).tolist(), true_covers(mask.allowed(grid), 4, 3))


# Size: 17 G cells are never made.


class _Largest(TorchDispatchMode):
    """Remembers the most elements that any tensor had."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return result


@pytest.fixture(scope="module")
def long_grid() -> Grid:
    return ordinary_grid(131072, 131072)


LONG = (
    Full(),
    Causal(),
    Window(4096),
    Chunk(8192),
    Global(300),
    Dilated(64, 16),
    Blocks(64),
    Random(64, 3, 1),
    Random(64, 3, 1, is_causal=False),
    Prefix(),
    Document(),
    Tree(),
    Pad(),
    Causal() & (Window(4096) | Global(4)),
)


@pytest.mark.parametrize("mask", LONG, ids=repr)
def test_a_long_block_map_is_fast_and_small(mask: Mask, long_grid: Grid) -> None:
    mask.block_map(long_grid.tile(slice(0, 256), slice(0, 256)), 128, 128)
    start = time.perf_counter()
    covers = mask.block_map(long_grid, 128, 128)
    assert time.perf_counter() - start < 1.0
    assert covers.shape == (1024, 1024)
    with _Largest() as largest:
        mask.block_map(long_grid, 128, 128)
    assert 1024 * 1024 <= largest.numel <= 2 * 1024 * 1024
    corner = long_grid.tile(slice(130000, 130500), slice(129900, 130200))
    assert lies(mask.block_map(corner, 128, 64).tolist(), true_covers(mask.allowed(corner), 128, 64)) == []


@pytest.mark.parametrize("mask", LONG, ids=repr)
def test_one_query_on_a_long_context_makes_no_square(mask: Mask, long_grid: Grid) -> None:
    row = long_grid.tile(slice(131071, 131072), slice(0, 131072))
    with _Largest() as largest:
        covers = mask.block_map(row, 1, 128)
    assert largest.numel <= 2 * 131072
    assert covers.shape == (1, 1024)
    assert covers.tolist() == true_covers(mask.allowed(row), 1, 128)


# What cannot be is refused, by name.


@pytest.mark.parametrize("make", [Window, Chunk, Global], ids=lambda make: make.__name__)
@pytest.mark.parametrize("size", [0, -1, 2**60 + 1, True])
def test_sizes_are_checked(make: type[Mask], size: int) -> None:
    with pytest.raises(AttentionError, match=rf"{make.__name__} got size {size}; .* from 1 to 2\*\*60"):
        make(size)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("make", "args", "message"),
    [
        (Dilated, (0, 1), "Dilated got size 0"),
        (Dilated, (1, 0), "Dilated got step 0"),
        (Dilated, (2**40, 2**40), r"size \* step"),
        (Blocks, (0,), "Blocks got size 0"),
        (Blocks, (4, -1), "num_neighbours -1; .* from 0"),
        (Random, (0, 1, 0), "Random got size 0"),
        (Random, (1, 0, 0), "Random got num_blocks 0"),
        (Random, (1, 1, -1), "seed -1; .* from 0"),
    ],
)
def test_parameters_are_checked(make: type[Mask], args: tuple[int, ...], message: str) -> None:
    with pytest.raises(AttentionError, match=message):
        make(*args)


@pytest.mark.parametrize(("q_block", "kv_block"), [(0, 1), (1, 0), (-3, 4)])
def test_blocks_without_cells_are_refused(q_block: int, kv_block: int) -> None:
    with pytest.raises(AttentionError, match=f"blocks of {q_block} x {kv_block} cells"):
        Causal().block_map(ordinary_grid(4, 4), q_block, kv_block)


NEEDS = [
    (Document(), {"queries.documents": "q_documents", "keys.documents": "k_documents"}),
    (Prefix(), {"queries.spans": "q_spans", "keys.spans": "k_spans"}),
    (Tree(), {"queries.nodes": "q_nodes", "keys.tree_parents": "tree_parents"}),
    (Pad(), {"keys.is_pad": "k_is_pad"}),
]


@pytest.mark.parametrize(("mask", "arrays"), NEEDS, ids=lambda value: repr(value))
def test_a_missing_array_is_named(mask: Mask, arrays: dict[str, str]) -> None:
    assert mask.needs == set(arrays)
    assert (Causal() & ~(mask | Window(3))).needs == set(arrays)
    full = ordinary_grid(4, 8)
    for name, field in arrays.items():
        grid = Grid(**{**vars(full), field: None})
        for read in (mask.allowed, lambda grid: (Causal() | ~mask).block_map(grid, 2, 2)):
            with pytest.raises(AttentionError, match=rf"{type(mask).__name__}\(\) reads {name}"):
                read(grid)


def test_positions_alone_serve_every_other_mask() -> None:
    bare = Grid(torch.arange(8), torch.arange(8), 8)
    for mask in PRIMITIVES:
        if not mask.needs:
            assert mask.allowed(bare).shape == (8, 8)
            assert mask.block_map(bare, 3, 3).shape == (3, 3)


def test_covers_are_three_valued() -> None:
    assert [cover.value for cover in Cover] == [0, 1, 2]
