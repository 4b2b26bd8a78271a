"""Lay out the tokens of one forward pass. Knows nothing of graphs, weights or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention import AttentionPlan, Source
from cynosure.cache import StatePath
from cynosure.core.errors import EmptyInput


@dataclass(frozen=True, eq=False)
class Inserted:
    """Vectors that enter the first layer in the places of some of a batch's tokens."""

    rows: Int[Tensor, " m"]
    vectors: Float[Tensor, "m hidden"]


@dataclass(frozen=True, eq=False)
class Seen:
    """Images that some of a batch's tokens attend to, in layers that are for that.

    `rows` are those tokens; `sources` hold keys and values for each such layer, and `plan` lays them out.
    """

    rows: Int[Tensor, " m"]
    sources: tuple[Source, ...]
    plan: AttentionPlan


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed tokens and where they sit.

    `positions` are what rotary and learned position embeddings look at, `[n]` (or `[axes, n]` for M-RoPE);
    masks look at those in `plan`. `new_lens` counts each sequence's tokens in this pass. What is `inserted`
    stands for images; or tokens attend to what is `seen` of them, in layers of their own. `states` are the
    slots of each sequence's state, where layers have one.
    """

    token_ids: Int[Tensor, " n"]
    positions: Int[Tensor, "*axes n"]
    plan: AttentionPlan
    new_lens: tuple[int, ...]
    type_ids: Int[Tensor, " n"] | None = None
    inserted: Inserted | None = None
    seen: Seen | None = None
    states: tuple[StatePath, ...] | None = None

    @property
    def last_rows(self) -> Int[Tensor, " num_seqs"]:
        """Row of each sequence's last token."""
        return self.plan.queries.cu_seqlens[1:] - 1

    @classmethod
    def pack(
        cls,
        sequences: Sequence[Sequence[int]],
        *,
        past_lens: Sequence[int] | None = None,
        max_len: int | None = None,
        segments: Sequence[Sequence[int]] | None = None,
        type_ids: Sequence[Sequence[int]] | None = None,
        block_tables: Sequence[Sequence[int]] | None = None,
    ) -> Batch:
        """Return the tokens of all sequences one after the other, without padding.

        Args:
            sequences: the new token ids of each sequence.
            past_lens: tokens of each sequence that a cache already holds.
            max_len: rows that a contiguous cache reserves for a sequence; `None` where there is none.
            segments: a segment id for every key of every sequence, those in the cache included.
            type_ids: token types of the new tokens (BERT's sentence A and B).
            block_tables: pages of a paged cache that hold each sequence, the new tokens included, in order.

        Raises:
            EmptyInput: there is no sequence, or one without tokens.
        """
        if not sequences or not all(len(sequence) for sequence in sequences):
            raise EmptyInput("a batch needs at least one sequence, and each at least one token")
        new_lens = [len(sequence) for sequence in sequences]
        past = [0] * len(new_lens) if past_lens is None else list(past_lens)
        plan = AttentionPlan.of_lengths(
            new_lens,
            [new + old for new, old in zip(new_lens, past, strict=True)],
            segments=segments,
            starts=None if max_len is None else [seq * max_len for seq in range(len(new_lens))],
        )
        if block_tables is not None:
            assert max_len is None, "a sequence has pages or reserved rows, not both"
            assert len(block_tables) == len(new_lens), "every sequence needs a block table"
            plan = plan.with_keys(replace(plan.keys[0], block_table=_rectangle(block_tables)))
        types = None if type_ids is None else _flat(type_ids)
        return cls(_flat(sequences), plan.queries.positions, plan, tuple(new_lens), types)

    @classmethod
    def pad(cls, sequences: Sequence[Sequence[int]], pad_id: int, *, on_left: bool = False) -> Batch:
        """Return sequences padded to the longest; positions skip the padding and no query sees it.

        Packing wastes nothing and is what we serve with; a padded batch is here because a caller's tensors
        may come padded, and because it must give the same.
        """
        longest = max(map(len, sequences), default=0)
        rows, is_pad, positions = [], [], []
        for sequence in sequences:
            padding = [pad_id] * (longest - len(sequence))
            pads, real = [True] * len(padding), [False] * len(sequence)
            count = list(range(len(sequence)))
            rows.append([*padding, *sequence] if on_left else [*sequence, *padding])
            is_pad.append(pads + real if on_left else real + pads)
            positions.append([0] * len(padding) + count if on_left else count + [0] * len(padding))
        batch = cls.pack(rows)
        placed = _flat(positions)
        keys = replace(batch.plan.keys[0], is_pad=_flat(is_pad).bool(), positions=placed)
        plan = replace(batch.plan, queries=replace(batch.plan.queries, positions=placed), keys=(keys,))
        return replace(batch, positions=placed, plan=plan)


def _flat(rows: Sequence[Sequence[int]]) -> Int[Tensor, " n"]:
    return torch.tensor([value for row in rows for value in row], dtype=torch.int64)


def _rectangle(rows: Sequence[Sequence[int]]) -> Int[Tensor, "num_rows longest"]:
    """Fill shorter rows up with -1: no page, so that going past a sequence's own pages is noticed."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows], dtype=torch.int64)
