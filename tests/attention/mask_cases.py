"""Generate grids and masks, and say cell by cell what is allowed. Knows nothing of how masks work."""

from __future__ import annotations

import functools

import torch
from hypothesis import strategies as st
from jaxtyping import Bool
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks import (
    And,
    Blocks,
    Causal,
    Chunk,
    Cover,
    Dilated,
    Document,
    Full,
    Global,
    LastBlock,
    Mask,
    Not,
    Or,
    Pad,
    Prefix,
    Random,
    Tree,
    UpTo,
    Window,
)

PRIMITIVES = (
    Full(),
    Causal(),
    Window(1),
    Window(5),
    Chunk(4),
    Global(3),
    Dilated(3, 2),
    Dilated(2, 5),
    Dilated(4, 1),
    Blocks(3),
    Blocks(4, 0),
    Random(3, 2, 7),
    Random(1, 3, 1),
    Random(4, 2, 9, is_causal=False),
    Prefix(),
    Document(),
    Tree(),
    Pad(),
    LastBlock(1),
    LastBlock(6),
    UpTo(7),
    UpTo(31),
)


def ordinary_grid(num_q: int, num_keys: int) -> Grid:
    """The last `num_q` of `num_keys` tokens: documents and spans in order, one chain, padding at the end."""
    keys = torch.arange(num_keys)
    queries = keys[num_keys - num_q :]
    spans = torch.where(keys // 6 % 2 == 1, keys // 6, 0)
    return Grid(
        q_positions=queries,
        k_positions=keys,
        num_keys=num_keys,
        q_nodes=queries,
        q_documents=queries // 7,
        k_documents=keys // 7,
        q_spans=spans[num_keys - num_q :],
        k_spans=spans,
        tree_parents=(keys - 1).clamp(min=0),
        k_is_pad=keys >= num_keys - 2,
    )


def wild_grid(num_q: int, num_keys: int, seed: int) -> Grid:
    """Anything that a plan may hold: positions with gaps and repeats, labels and branches in any order."""
    draw = functools.partial(torch.randint, generator=torch.Generator().manual_seed(seed))
    num_nodes = max(1, num_keys)
    parents = torch.stack([draw(max(0, i - 4), i + 1, ()) for i in range(num_nodes)])
    parents = torch.where(draw(3, (num_nodes,)) > 0, (torch.arange(num_nodes) - 1).clamp(min=0), parents)
    return Grid(
        q_positions=draw(40, (num_q,)).sort().values,
        k_positions=draw(40, (num_keys,)),
        num_keys=num_keys,
        q_nodes=draw(num_nodes, (num_q,)),
        q_documents=draw(4, (num_q,)),
        k_documents=draw(4, (num_keys,)).sort().values,
        q_spans=draw(4, (num_q,)),
        k_spans=draw(4, (num_keys,)),
        tree_parents=parents,
        k_is_pad=draw(2, (num_keys,)).bool(),
    )


@st.composite
def grids(draw: st.DrawFn, max_side: int = 20) -> Grid:
    num_keys = draw(st.integers(0, max_side))
    if draw(st.booleans()):
        return ordinary_grid(draw(st.integers(0, num_keys)), num_keys)
    return wild_grid(draw(st.integers(0, max_side)), num_keys, draw(st.integers(0, 999)))


sizes = st.integers(1, 12)
primitives = st.one_of(
    st.sampled_from([Full(), Causal(), Prefix(), Document(), Tree(), Pad()]),
    st.builds(Window, sizes),
    st.builds(Chunk, sizes),
    st.builds(Global, sizes),
    st.builds(LastBlock, sizes),
    st.builds(UpTo, sizes),
    st.builds(Dilated, sizes, st.integers(1, 5)),
    st.builds(Blocks, sizes, st.integers(0, 3)),
    st.builds(Random, sizes, st.integers(1, 4), st.integers(0, 2**60), is_causal=st.booleans()),
)
# Composed in the test by `built`: the check of shapes draws at random, which no strategy may do.
Expression = Mask | tuple
expressions = st.recursive(
    primitives,
    lambda inner: st.one_of(st.tuples(st.sampled_from("&|"), inner, inner), st.tuples(st.just("~"), inner)),
    max_leaves=6,
)


def built(expression: Expression) -> Mask:
    match expression:
        case "&", left, right:
            return built(left) & built(right)
        case "|", left, right:
            return built(left) | built(right)
        case "~", inner:
            return ~built(inner)
        case _:
            return expression


def naive(mask: Mask, grid: Grid) -> Bool[Tensor, "q k"]:
    """Return what is allowed, asked one cell at a time."""
    rows, columns = grid.shape
    cells = [[naive_cell(mask, grid, row, column) for column in range(columns)] for row in range(rows)]
    return torch.tensor(cells, dtype=torch.bool).reshape(rows, columns)


def naive_cell(mask: Mask, grid: Grid, row: int, column: int) -> bool:
    q, k = int(grid.q_positions[row]), int(grid.k_positions[column])
    match mask:
        case And(masks):
            return all(naive_cell(part, grid, row, column) for part in masks)
        case Or(masks):
            return any(naive_cell(part, grid, row, column) for part in masks)
        case Not(inner):
            return not naive_cell(inner, grid, row, column)
        case Prefix() | Document() | Tree() | Pad():
            return _naive_label(mask, grid, row, column)
        case Random(size, num_blocks, seed, is_causal):
            supply = q // size + 1 if is_causal else len(range(0, grid.num_keys, size))
            return k // size in naive_draws(seed, q // size, num_blocks, supply)
        case LastBlock(size):
            lasts = range(0, max(grid.num_keys, 1), size)[-1:]
            return any(k >= first or q >= first for first in lasts)
        case UpTo(length):
            return grid.num_keys in range(length + 1)
        case _:
            return _naive_position(mask, q, k)


def _naive_position(mask: Mask, q: int, k: int) -> bool:
    match mask:
        case Full():
            return True
        case Causal():
            return k in range(q + 1)
        case Window(size):
            return k in range(q - size + 1, q + size)
        case Chunk(size):
            return k in range(q - q % size, q - q % size + size)
        case Global(size):
            return k in range(size) or q in range(size)
        case Dilated(size, step):
            return k in [q + i * step for i in range(1 - size, size)]
        case Blocks(size, num_neighbours):
            return any(q // size + i == k // size for i in range(-num_neighbours, num_neighbours + 1))
        case _:
            raise AssertionError(f"no loop for {mask!r}")


def _naive_label(mask: Mask, grid: Grid, row: int, column: int) -> bool:
    match mask:
        case Prefix():
            assert grid.q_spans is not None
            assert grid.k_spans is not None
            return 0 != int(grid.q_spans[row]) == int(grid.k_spans[column])
        case Document():
            assert grid.q_documents is not None
            assert grid.k_documents is not None
            return int(grid.q_documents[row]) == int(grid.k_documents[column])
        case Pad():
            assert grid.k_is_pad is not None
            return not bool(grid.k_is_pad[column])
        case _:
            assert grid.q_nodes is not None
            assert grid.tree_parents is not None
            return grid.k_first + column in naive_path(int(grid.q_nodes[row]), grid.tree_parents.tolist())


def naive_path(node: int, parents: list[int]) -> list[int]:
    """Return the node and its ancestors, walked one by one."""
    path = [node]
    while parents[path[-1]] != path[-1]:
        path.append(parents[path[-1]])
    return path


def naive_splitmix64(state: int) -> int:
    """The hash as its authors wrote it, in unbounded integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return state ^ (state >> 31)


@functools.cache
def naive_draws(seed: int, q_block: int, num_blocks: int, supply: int) -> frozenset[int]:
    """Return the key blocks that a query block draws, with a set and a loop."""
    state = naive_splitmix64(naive_splitmix64(seed) ^ q_block)
    drawn: set[int] = set()
    wanted = min(num_blocks, supply)
    for number in range(wanted):
        last = supply - wanted + number
        pick = naive_splitmix64((state + number) % 2**64) % 2**63 % (last + 1)
        drawn.add(last if pick in drawn else pick)
    return frozenset(drawn)


def true_covers(cells: Bool[Tensor, "q k"], q_block: int, kv_block: int) -> list[list[Cover]]:
    """Return the cover of every block, seen from its cells."""

    def cover(block: Tensor) -> Cover:
        return Cover.FULL if bool(block.all()) else Cover.PARTIAL if bool(block.any()) else Cover.EMPTY

    return [
        [cover(part) for part in rows.split(kv_block, 1)] if rows.numel() else []
        for rows in cells.split(q_block)
    ]


def lies(claimed: list[list[int]], true: list[list[Cover]]) -> list[tuple[int, int]]:
    """Return the blocks that are called empty or full and are not."""
    return [
        (row, column)
        for row, covers in enumerate(claimed)
        for column, cover in enumerate(covers)
        if cover != Cover.PARTIAL and cover != true[row][column]
    ]
