"""Hand out a memory's keys and values, of which each query sees its best. Knows nothing of who merges them.

Memorizing Transformers (arXiv 2203.08913) keep keys and values beyond the context, and let each query of each
head attend to the few that score highest. Here that is one more source, whose state merges with any other's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cynosure.attention.memory_search import KeySearch
from cynosure.attention.plan import KeyPlan, cumulative
from cynosure.attention.sources import DenseSource
from cynosure.attention.spec import TopK
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class MemorySource(DenseSource):
    """Rows of keys and values, of which each query of each head attends to the `num_best` that score highest.

    Without a `search` all rows are scored, and biases and padding are seen before anything is chosen. A
    `search` looks at products of keys and queries alone, over all rows; `recall_of` tells what it misses.
    """

    num_best: int
    search: KeySearch | None = None

    def __post_init__(self) -> None:
        """Check that keys, values and search are of one memory."""
        if self.num_best < 1:
            raise AttentionError(f"num_best is {self.num_best}; the limit is 1. Raise it")
        super().__post_init__()
        if self.search is not None and self.search.shape != self.k.shape:
            raise AttentionError(
                f"the search was built over keys of shape {tuple(self.search.shape)}; this memory's are "
                f"{tuple(self.k.shape)}. Build it over k"
            )

    @property
    def selection(self) -> TopK:
        """The best keys of each query and head, by their exact scores."""
        return TopK(self.num_best)

    def keys_for(self, num_seqs: int) -> KeyPlan:
        """Plan the whole memory for each of `num_seqs` sequences; its rows have no positions."""
        nowhere = torch.zeros(1, dtype=torch.int64, device=self.k.device).expand(num_seqs * self.size)
        starts = torch.zeros(num_seqs, dtype=torch.int64, device=self.k.device)
        offsets = cumulative([self.size] * num_seqs).to(self.k.device)
        return KeyPlan(offsets, nowhere, starts=starts, is_always_visible=True)

    def check(self, keys: KeyPlan) -> None:
        """Raise where a mask would apply, or a sequence ends after the last row."""
        if not keys.is_always_visible:
            raise AttentionError(
                "a memory lies outside of a sequence, where no mask reaches; plan its keys with "
                "is_always_visible=True (keys_for does)"
            )
        super().check(keys)
