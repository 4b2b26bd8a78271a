"""Check ancestry against paths walked parent by parent. Knows nothing of other masks."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.attention.grid import Grid
from cynosure.attention.masks import Cover, Tree
from cynosure.attention.masks.tree import Walk
from cynosure.core.errors import AttentionError
from tests.attention.mask_cases import naive_path


def tree_grid(parents: list[int], nodes: list[int]) -> Grid:
    keys = torch.arange(len(parents))
    return Grid(
        torch.tensor(nodes),
        keys,
        len(parents),
        q_nodes=torch.tensor(nodes),
        tree_parents=torch.tensor(parents),
    )


@st.composite
def forests(draw: st.DrawFn) -> list[int]:
    """Trees of chains, stars and everything between, several in a row."""
    reach = draw(st.sampled_from([1, 2, 5, 30]))
    return [draw(st.integers(max(0, i - reach), i)) for i in range(draw(st.integers(1, 30)))]


@given(forests())
@settings(max_examples=200)
def test_a_node_sees_its_path(parents: list[int]) -> None:
    cells = Tree().allowed(tree_grid(parents, list(range(len(parents)))))
    for node in range(len(parents)):
        assert set(cells[node].nonzero()[:, 0].tolist()) == set(naive_path(node, parents))


@given(forests())
def test_the_walk_enters_every_node_once(parents: list[int]) -> None:
    walk = Walk.of(torch.tensor(parents))
    nodes = torch.arange(len(parents))
    enter, leave = walk.enter(nodes), walk.leave(nodes)
    assert sorted(enter.tolist()) == nodes.tolist()
    sizes = [sum(node in naive_path(other, parents) for other in nodes.tolist()) for node in nodes.tolist()]
    assert (leave - enter + 1).tolist() == sizes


def test_a_path_of_the_tree_is_causal_attention_along_it() -> None:
    """Two branches from 3: each sees the context and itself, not the other."""
    parents = [0, 0, 1, 2, 3, 4, 3, 6]
    cells = Tree().allowed(tree_grid(parents, [5, 7]))
    assert cells.tolist() == [
        [True, True, True, True, True, True, False, False],
        [True, True, True, True, False, False, True, True],
    ]


def test_two_roots_do_not_see_each_other() -> None:
    cells = Tree().allowed(tree_grid([0, 0, 2, 2], [0, 1, 2, 3]))
    assert cells.tolist() == torch.block_diag(*[torch.ones(2, 2).tril()] * 2).bool().tolist()


def test_a_long_committed_chain_is_not_walked() -> None:
    n, num_drafts = 131072, 31
    parents = torch.arange(n + num_drafts) - 1
    parents[0] = 0
    drafts = torch.arange(num_drafts)
    parents[n:] = torch.where(drafts > 0, n + (drafts - 1) // 2, n - 1)
    nodes = torch.arange(n, n + num_drafts)
    grid = Grid(nodes, torch.arange(n + num_drafts), n + num_drafts, q_nodes=nodes, tree_parents=parents)
    Tree().allowed(grid)
    start = time.perf_counter()
    cells, covers = Tree().allowed(grid), Tree().block_map(grid, 32, 128)
    assert time.perf_counter() - start < 1.0
    assert bool(cells[:, :n].all())
    path = [node - n for node in naive_path(n + 30, parents.tolist()) if node >= n]
    assert cells[30, n:].nonzero()[:, 0].tolist() == sorted(path)
    assert covers.tolist() == [[Cover.FULL] * 1024 + [Cover.PARTIAL]]


def test_a_block_of_another_branch_is_empty() -> None:
    parents = [0, *[0, 1, 2, 3], *[0, 5, 6, 7]]
    covers = Tree().block_map(tree_grid(parents, [5, 6, 7, 8]).tile(slice(0, 4), slice(1, 9)), 4, 4)
    assert covers.tolist() == [[Cover.EMPTY, Cover.PARTIAL]]


@pytest.mark.parametrize("parents", [[0, 2, 1], [1, 1], [0, 0, -1], [-1, 0]])
def test_a_parent_after_its_child_is_refused(parents: list[int]) -> None:
    with pytest.raises(AttentionError, match=r"parent -?\d for node \d; it must be from 0"):
        Tree().allowed(tree_grid(parents, [0]))


@pytest.mark.parametrize("node", [-1, 3])
def test_a_query_outside_the_tree_is_refused(node: int) -> None:
    with pytest.raises(AttentionError, match=f"queries at nodes {node} to {node}, and the tree has 3"):
        Tree().allowed(tree_grid([0, 0, 1], [node]))


def test_keys_outside_the_tree_are_refused() -> None:
    grid = Grid(
        torch.arange(2),
        torch.arange(5),
        5,
        q_nodes=torch.arange(2),
        tree_parents=torch.zeros(3, dtype=torch.int64),
    )
    with pytest.raises(AttentionError, match="keys at nodes 0 to 4, and the tree has 3"):
        Tree().block_map(grid, 2, 2)
