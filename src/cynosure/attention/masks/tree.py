"""Mask by ancestry in a tree of tokens. Knows nothing of who drafted the tree or which branch wins.

A depth-first walk enters every node and leaves it after its descendants; numbered by entry, a node and its
descendants are the interval `[enter, leave]`, so that ancestry is two comparisons (Dietz, STOC 1982). The
committed context is one long chain of parents `i -> i - 1`; chains are numbered as a whole, and only the
joints between them are walked one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.algebra import Mask, require
from cynosure.attention.masks.block_map import BlockMap, Tiling
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, repr=False)
class Tree(Mask):
    """A query attends to its own node and to that node's ancestors (SpecInfer, arXiv:2305.09781).

    `tree_parents[i] <= i` is the parent of key `i`; a root is its own parent. The columns of the grid are
    the keys from `k_first` on, and `q_nodes` says which key each query is.
    """

    @property
    def needs(self) -> frozenset[str]:
        """The tree, and each query's place in it."""
        return frozenset({"keys.tree_parents", "queries.nodes"})

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the key is an ancestor of the query's node, or that node."""
        q, enter, leave = self._numbers(grid)
        return (enter[None, :] <= q[:, None]) & (q[:, None] <= leave[None, :])

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers; full ones are exact, empty ones where branches are not interleaved."""
        q_enter, k_enter, k_leave = self._numbers(tiling.grid)
        q, enter, leave = tiling.of_rows(q_enter), tiling.of_columns(k_enter), tiling.of_columns(k_leave)
        is_any = (enter.low <= q.high) & (q.low <= leave.high)
        return tiling.covers(is_any, (enter.high <= q.low) & (q.high <= leave.low))

    def _numbers(self, grid: Grid) -> tuple[Int[Tensor, " q"], Int[Tensor, " k"], Int[Tensor, " k"]]:
        """Return where the walk enters each query's node, and where it enters and leaves each key."""
        parents = require(self, grid.tree_parents, "keys.tree_parents")
        nodes = require(self, grid.q_nodes, "queries.nodes").long()
        keys = torch.arange(grid.k_first, grid.k_first + grid.shape[1], device=parents.device)
        for name, places in (("queries", nodes), ("keys", keys)):
            low, high = (int(places.min()), int(places.max())) if places.numel() else (0, -1)
            if low < 0 or high >= parents.numel():
                raise AttentionError(
                    f"Tree got {name} at nodes {low} to {high}, and the tree has {parents.numel()}; each "
                    "must be one of its nodes. Give tree_parents for every key, and nodes among those keys."
                )
        walk = Walk.of(parents.long())
        return walk.enter(nodes), walk.enter(keys), walk.leave(keys)

    def __repr__(self) -> str:
        return "Tree()"


@dataclass(frozen=True, eq=False)
class Walk:
    """A depth-first walk through a tree, kept by chains.

    Chain `c` is the nodes `heads[c]:heads[c + 1]`, and `entries[c]` is when the walk enters its head.
    `joints` are the nodes that chains hang from, rising, and `hung[i]` is how many nodes hang from the
    first `i` of them.
    """

    num_nodes: int
    heads: Int[Tensor, " chains"]
    entries: Int[Tensor, " chains"]
    joints: Int[Tensor, " joints"]
    hung: Int[Tensor, " joints_1"]

    @classmethod
    def of(cls, parents: Int[Tensor, " n"]) -> Walk:
        """Walk the tree of `parents`.

        Raises:
            AttentionError: a parent comes after its child.
        """
        nodes = torch.arange(parents.numel(), device=parents.device)
        is_head = parents != nodes - 1
        is_head[:1] = True
        heads = is_head.nonzero()[:, 0]
        trunks = parents[heads]
        is_late = (trunks < 0) | (trunks > heads)
        if bool(is_late.any()):
            node, parent = int(heads[is_late][0]), int(trunks[is_late][0])
            raise AttentionError(
                f"Tree got parent {parent} for node {node}; it must be from 0 to {node}, and {node} itself "
                "for a root. Order the keys so that parents come before their children."
            )
        sizes = _chain_sizes(heads, trunks, parents.numel())
        hangs = trunks != heads
        joints, order = trunks[hangs].sort(stable=True)
        hung = torch.cat([sizes.new_zeros(1), sizes[hangs][order].cumsum(0)])
        walk = cls(parents.numel(), heads, torch.zeros_like(heads), joints, hung)
        return replace(walk, entries=walk._entries(trunks, sizes))

    def enter(self, nodes: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return when the walk enters each of `nodes`."""
        chains = self._chains(nodes)
        return self.entries[chains] + nodes - self.heads[chains]

    def leave(self, nodes: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return when the walk enters the last descendant of each of `nodes`."""
        return self.enter(nodes) + self._sizes(nodes) - 1

    def _chains(self, nodes: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        return torch.searchsorted(self.heads, nodes, right=True) - 1

    def _sizes(self, nodes: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return how many descendants each node has, and one for itself.

        They are the rest of its chain, and what hangs from the node or from that rest.
        """
        ends = _ends(self.heads, self.num_nodes)[self._chains(nodes)]
        above, below = torch.searchsorted(self.joints, nodes), torch.searchsorted(self.joints, ends)
        return ends - nodes + self.hung[below] - self.hung[above]

    def _entries(
        self, trunks: Int[Tensor, " chains"], sizes: Int[Tensor, " chains"]
    ) -> Int[Tensor, " chains"]:
        """Return when the walk enters each chain: trees in turn, and below a joint the last chain first."""
        chains = self._chains(trunks)
        offsets = (trunks - self.heads[chains]).tolist()
        descendants = self._sizes(trunks).tolist()
        entries: list[int] = []
        num_entered = 0
        room: dict[int, int] = {}  # what is still free below a joint
        places = zip(trunks.tolist(), chains.tolist(), sizes.tolist(), strict=True)
        for index, (joint, chain, size) in enumerate(places):
            if chain == index:
                entries.append(num_entered)
                num_entered += size
            else:
                room[joint] = room.get(joint, descendants[index]) - size
                entries.append(entries[chain] + offsets[index] + room[joint])
        return self.heads.new_tensor(entries)


def _ends(heads: Int[Tensor, " chains"], num_nodes: int) -> Int[Tensor, " chains"]:
    """Return the node after each chain's last."""
    return torch.cat([heads[1:], heads.new_full((min(1, len(heads)),), num_nodes)])


def _chain_sizes(
    heads: Int[Tensor, " chains"], trunks: Int[Tensor, " chains"], num_nodes: int
) -> Int[Tensor, " chains"]:
    """Return how many nodes each chain has with all that hangs from it."""
    sizes = (_ends(heads, num_nodes) - heads).tolist()
    parents = (torch.searchsorted(heads, trunks, right=True) - 1).tolist()
    for chain in range(len(sizes) - 1, -1, -1):
        if parents[chain] != chain:
            sizes[parents[chain]] += sizes[chain]
    return heads.new_tensor(sizes)
