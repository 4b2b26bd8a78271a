"""Mask by what tokens are labelled with: document, span, padding. Knows nothing of positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from cynosure.attention.grid import Grid
from cynosure.attention.masks.algebra import Mask, require
from cynosure.attention.masks.block_map import BlockMap, Bounds, Tiling


@dataclass(frozen=True, repr=False)
class Document(Mask):
    """A query attends within its own document; packed documents do not see each other."""

    @property
    def needs(self) -> frozenset[str]:
        """The documents of both sides."""
        return frozenset({"queries.documents", "keys.documents"})

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where the documents are the same."""
        q, k = self._labels(grid)
        return q[:, None] == k[None, :]

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where documents are numbered in order."""
        q, k = self._labels(tiling.grid)
        rows, columns = tiling.of_rows(q), tiling.of_columns(k)
        return tiling.covers(_may_meet(rows, columns), _is_one(rows, columns))

    def _labels(self, grid: Grid) -> tuple[Tensor, Tensor]:
        return require(self, grid.q_documents, "queries.documents"), require(
            self, grid.k_documents, "keys.documents"
        )

    def __repr__(self) -> str:
        return "Document()"


@dataclass(frozen=True, repr=False)
class Prefix(Mask):
    """A query in a bidirectional span attends to all of that span; span 0 is none.

    `Causal() | Prefix()` is a prefix LM (T5, arXiv:1910.10683, 3.2.1) where the span is the prompt, and
    the image spans of Gemma 3 in a causal prompt.
    """

    @property
    def needs(self) -> frozenset[str]:
        """The spans of both sides."""
        return frozenset({"queries.spans", "keys.spans"})

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return where both are in the same span."""
        q, k = self._labels(grid)
        return (q[:, None] == k[None, :]) & (q > 0)[:, None]

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return covers that are exact where spans are numbered in order."""
        q, k = self._labels(tiling.grid)
        rows, columns = tiling.of_rows(q), tiling.of_columns(k)
        # Whether spans may meet is told by those of the tokens that are in one.
        nowhere = torch.iinfo(torch.int64).max
        q_least = tiling.of_rows(q.long().masked_fill(q <= 0, nowhere)).low
        k_least = tiling.of_columns(k.long().masked_fill(k <= 0, nowhere)).low
        is_any = _may_meet(Bounds(q_least, rows.high), Bounds(k_least, columns.high))
        return tiling.covers(is_any, _is_one(rows, columns))

    def _labels(self, grid: Grid) -> tuple[Tensor, Tensor]:
        return require(self, grid.q_spans, "queries.spans"), require(self, grid.k_spans, "keys.spans")

    def __repr__(self) -> str:
        return "Prefix()"


@dataclass(frozen=True, repr=False)
class Pad(Mask):
    """No query attends to padding."""

    @property
    def needs(self) -> frozenset[str]:
        """Which keys are padding."""
        return frozenset({"keys.is_pad"})

    def allowed(self, grid: Grid) -> Bool[Tensor, "q k"]:
        """Return the keys that are not padding, for every query."""
        is_pad = require(self, grid.k_is_pad, "keys.is_pad")
        return (~is_pad).expand(grid.shape)

    def covers(self, tiling: Tiling) -> BlockMap:
        """Return exact covers."""
        is_pad = tiling.of_columns(require(self, tiling.grid.k_is_pad, "keys.is_pad").long())
        return tiling.covers(is_pad.low == 0, is_pad.high == 0)

    def __repr__(self) -> str:
        return "Pad()"


def _may_meet(q: Bounds, k: Bounds) -> Bool[Tensor, "q_blocks kv_blocks"]:
    return (q.low <= k.high) & (k.low <= q.high)


def _is_one(q: Bounds, k: Bounds) -> Bool[Tensor, "q_blocks kv_blocks"]:
    return (q.low == q.high) & (k.low == k.high) & (q.low == k.low)
