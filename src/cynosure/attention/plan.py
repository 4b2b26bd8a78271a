"""Say where every query and every key sits. Knows nothing of tensors of values, models or caches.

A spec names kinds (which mask, which position); a plan holds the arrays. One plan serves every layer
of a forward pass; the layers differ only in the tensors of their sources.

Tokens are packed: the queries of sequence `i` are rows `cu_seqlens[i]:cu_seqlens[i + 1]` of `q`. Its
keys are the columns `cu_seqlens[i]:cu_seqlens[i + 1]` of every per-key array of a `KeyPlan`; where the
key *tensors* lie is the source's business (`starts`, `block_table`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.core.errors import AttentionError


@dataclass(frozen=True, eq=False)
class QueryPlan:
    """Where the queries sit.

    `positions` are what masks and position biases measure distances with. `nodes` is each query's own
    index among its sequence's keys; only tree masks need it. `documents` and `spans` number the packed
    document and the bidirectional span a token belongs to; span 0 means "in none".
    """

    cu_seqlens: Int[Tensor, " num_seqs_1"]
    positions: Int[Tensor, " num_q"]
    nodes: Int[Tensor, " num_q"] | None = None
    documents: Int[Tensor, " num_q"] | None = None
    spans: Int[Tensor, " num_q"] | None = None

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """`cu_seqlens` on the host."""
        return tuple(self.cu_seqlens.tolist())


@dataclass(frozen=True, eq=False)
class KeyPlan:
    """Where the keys of one source sit.

    - `starts`: row of the source's tensors at which each sequence begins; `None` means packed.
    - `block_table`: the pages of each sequence, in order, for a paged source.
    - `segments`: dense small integers per request, in sorted runs; what shares are counted by.
    - `tree_parents`: each key's parent among its sequence's keys; a root is its own parent.
    - `is_pad`: keys that no query may see.
    - `bias`: added to every score of that key, in nats; `-inf` denies it, `log a` weighs it by `a`.
    - `is_always_visible`: the spec's mask does not apply (memory tokens, an encoder's output).
    """

    cu_seqlens: Int[Tensor, " num_seqs_1"]
    positions: Int[Tensor, " num_keys"]
    starts: Int[Tensor, " num_seqs"] | None = None
    block_table: Int[Tensor, "num_seqs max_blocks"] | None = None
    segments: Int[Tensor, " num_keys"] | None = None
    documents: Int[Tensor, " num_keys"] | None = None
    spans: Int[Tensor, " num_keys"] | None = None
    tree_parents: Int[Tensor, " num_keys"] | None = None
    is_pad: Bool[Tensor, " num_keys"] | None = None
    bias: Float[Tensor, " num_keys"] | None = None
    is_always_visible: bool = False

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """`cu_seqlens` on the host."""
        return tuple(self.cu_seqlens.tolist())

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """Row of the source's tensors at which each sequence begins."""
        return self.offsets[:-1] if self.starts is None else tuple(self.starts.tolist())

    def segment_runs(self, seq: int) -> tuple[tuple[int, int, int], ...]:
        """Return `(segment, start, stop)` for each run of equal segments in sequence `seq`."""
        runs = self._runs.get(seq)
        if runs is None:
            low, high = self.offsets[seq], self.offsets[seq + 1]
            runs = _runs_of(self.segments[low:high]) if self.segments is not None else ()
            self._runs[seq] = runs
        return runs

    @cached_property
    def _runs(self) -> dict[int, tuple[tuple[int, int, int], ...]]:
        return {}


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """Where everything sits: the queries, and the keys of each source in order.

    `num_segments` bounds the segment ids of all requests; 0 means that shares are not counted.
    """

    queries: QueryPlan
    keys: tuple[KeyPlan, ...]
    num_segments: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without reading values on a device."""
        num_seqs = self.queries.cu_seqlens.numel() - 1
        for index, keys in enumerate(self.keys):
            if keys.cu_seqlens.numel() - 1 != num_seqs:
                got = keys.cu_seqlens.numel() - 1
                raise AttentionError(
                    f"source {index} is planned for {got} sequences and the queries for {num_seqs}; "
                    "plan both for the same"
                )
            if keys.segments is not None and self.num_segments < 1:
                raise AttentionError(
                    f"source {index} has segments but num_segments is {self.num_segments}; set it"
                )

    @property
    def num_seqs(self) -> int:
        """Number of sequences."""
        return self.queries.cu_seqlens.numel() - 1

    @cached_property
    def grids(self) -> tuple[tuple[Grid, ...], ...]:
        """For each source, the rectangle of queries x keys of every sequence."""
        return tuple(
            tuple(_grid_of(self.queries, keys, seq) for seq in range(self.num_seqs)) for keys in self.keys
        )

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """What backends worked out from this plan once, for all layers that share it."""
        return {}

    def with_keys(self, *keys: KeyPlan) -> AttentionPlan:
        """Return the same queries over other sources."""
        return replace(self, keys=keys)

    @classmethod
    def of_lengths(
        cls,
        q_lens: Sequence[int],
        kv_lens: Sequence[int] | None = None,
        *,
        segments: Sequence[Sequence[int]] | None = None,
        starts: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> AttentionPlan:
        """Plan self-attention in which each sequence's queries are the last of its keys.

        Args:
            q_lens: new tokens per sequence.
            kv_lens: keys per sequence, the new ones included; `None` means that there are no others.
            segments: a segment id for every key of every sequence.
            starts: row of the source at which each sequence begins.
            device: where the arrays live.

        Raises:
            AttentionError: a sequence has more queries than keys, or the lists differ in length.
        """
        kv_lens = list(q_lens) if kv_lens is None else list(kv_lens)
        if len(kv_lens) != len(q_lens) or any(q > k for q, k in zip(q_lens, kv_lens, strict=True)):
            raise AttentionError(
                f"queries must be the last of the keys; got q_lens {list(q_lens)} and kv_lens {kv_lens}"
            )
        past = [k - q for q, k in zip(q_lens, kv_lens, strict=True)]
        ids, num_segments = None, 0
        if segments is not None:
            flat = [segment for row in segments for segment in row]
            ids = torch.tensor(flat, dtype=torch.int64, device=device)
            num_segments = max(flat, default=0) + 1
        queries = QueryPlan(cumulative(q_lens).to(device), _counted(q_lens, past).to(device))
        keys = KeyPlan(
            cumulative(kv_lens).to(device),
            _counted(kv_lens).to(device),
            starts=None if starts is None else torch.tensor(list(starts), dtype=torch.int64, device=device),
            segments=ids,
        )
        return cls(queries, (keys,), num_segments)


def _grid_of(queries: QueryPlan, keys: KeyPlan, seq: int) -> Grid:
    rows = slice(queries.offsets[seq], queries.offsets[seq + 1])
    columns = slice(keys.offsets[seq], keys.offsets[seq + 1])
    return Grid(
        q_positions=queries.positions[rows],
        k_positions=keys.positions[columns],
        num_keys=columns.stop - columns.start,
        q_nodes=_part(queries.nodes, rows),
        q_documents=_part(queries.documents, rows),
        k_documents=_part(keys.documents, columns),
        q_spans=_part(queries.spans, rows),
        k_spans=_part(keys.spans, columns),
        tree_parents=_part(keys.tree_parents, columns),
        k_is_pad=_part(keys.is_pad, columns),
        k_bias=_part(keys.bias, columns),
    )


def _part(array: Tensor | None, part: slice) -> Tensor | None:
    return None if array is None else array[part]


def cumulative(lengths: Sequence[int]) -> Int[Tensor, " num_seqs_1"]:
    """Return `cu_seqlens` of `lengths`: a leading 0, then running sums."""
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int64))


def _counted(lengths: Sequence[int], firsts: Sequence[int] | None = None) -> Int[Tensor, " n"]:
    """Count up from each sequence's first, 0 by default; in numpy, which is faster on short arrays."""
    counts = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    if firsts is not None:
        starts = starts - np.asarray(firsts, dtype=np.int64)
    return torch.from_numpy(np.arange(counts.sum()) - np.repeat(starts, counts))


def _runs_of(ids: Int[Tensor, " n"]) -> tuple[tuple[int, int, int], ...]:
    values, counts = torch.unique_consecutive(ids, return_counts=True)
    runs, start = [], 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        runs.append((value, start, start + count))
        start += count
    return tuple(runs)
