"""Walk many byte strings through a trie at once. Knows nothing of tokens or texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

#: A symbol that is no byte, and leads from no node anywhere.
NO_BYTE = 256

#: Above every symbol, so that node and symbol make one number.
_STRIDE = NO_BYTE + 1

#: Where a walk is that has left the trie.
NOWHERE = -1


class ByteTrie:
    """All prefixes of some strings, as numbers.

    Nodes are numbered level by level, 0 is the empty prefix. So the edges, sorted by parent and byte, are in
    the order of the nodes that they lead to, and a sorted list of them is the whole trie.

    - `node_of`: the node of each string; strings that are alike share one.
    - `levels`: the first node of each level, and behind them the number of nodes.
    - `parents`, `symbols`: of each node but 0, which has itself and no byte.
    """

    def __init__(self, strings: Sequence[bytes]) -> None:
        """Number the prefixes; takes about a second for a million bytes."""
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        starts = np.cumsum(lengths) - lengths
        data = np.frombuffer(b"".join(strings), np.uint8)
        self.node_of = np.zeros(len(strings), np.int64)
        levels, edges = [0], [np.array([NO_BYTE], np.int64)]
        count, depth, going = 1, 0, np.flatnonzero(lengths)
        while len(going):
            keys = self.node_of[going] * _STRIDE + data[starts[going] + depth]
            unique, places = np.unique(keys, return_inverse=True)
            self.node_of[going] = count + places
            levels.append(count)
            edges.append(unique)
            count, depth = count + len(unique), depth + 1
            going = going[lengths[going] > depth]
        self.levels = (*levels, count)
        # Of node 0 it says "no byte from 0", which nobody asks for.
        self._edges = np.concatenate(edges)
        self._sorted = self._edges[1:]
        self.parents, self.symbols = self._edges // _STRIDE, self._edges % _STRIDE

    def __len__(self) -> int:
        """How many nodes there are."""
        return self.levels[-1]

    @property
    def depths(self) -> Int[np.ndarray, " nodes"]:
        """How many bytes each node spells."""
        widths = np.diff(self.levels)
        return np.repeat(np.arange(len(widths)), widths)

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return self.node_of.nbytes + 3 * self._edges.nbytes

    def step(self, nodes: Int[np.ndarray, " n"], symbols: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Where each of several walks goes by its next byte; `NOWHERE` where no string goes on so."""
        keys = nodes.astype(np.int64) * _STRIDE + symbols
        places = np.searchsorted(self._sorted, keys)
        known = places < len(self._sorted)
        known[known] = self._sorted[places[known]] == keys[known]
        return np.where(known, places + 1, NOWHERE)
