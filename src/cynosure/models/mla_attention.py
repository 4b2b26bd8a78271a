"""Compress tokens to latent rows, attend to those, project back. Knows nothing of layers around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, PagedSource, PageScales, Score
from cynosure.attention.masks import Causal, Mask
from cynosure.attention.mla import ExpandedSource, MlaReading, MlaWidths, absorb, absorbed_source, project
from cynosure.attention.positions import Rope
from cynosure.cache import LayerShape
from cynosure.models.batch import Batch
from cynosure.models.forward_pass import AttentionBlock, ForwardPass, StoredSource
from cynosure.models.indexer import Indexer, IndexerSpec
from cynosure.models.norm import Norm, NormSpec


@dataclass(frozen=True)
class MlaSpec:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).

    - `scale`: of scores, under both readings.
    - `q_latent_dim`: width that queries are compressed to first; `None` projects them directly.
    - `has_bias`: of the compressing projections and of the output's.
    - `reading`: how cached rows are read; `None` absorbs where every sequence brings one token, and expands
      otherwise.
    - `indexer`: chooses the tokens that a query attends to where there are more (DeepSeek-V3.2).
    """

    widths: MlaWidths
    position: Rope
    norm: NormSpec
    scale: float
    q_latent_dim: int | None = None
    has_bias: bool = False
    mask: Mask = field(default_factory=Causal)
    reading: MlaReading | None = None
    indexer: IndexerSpec | None = None

    def attention(self, reading: MlaReading) -> AttentionSpec:
        """Return what `attend` computes under `reading`."""
        return AttentionSpec(self.widths.heads(reading), self.mask, self.position, Score(self.scale))


@final
class MlaAttention(AttentionBlock):
    """Attention whose cache holds one latent row a token, whatever the number of heads."""

    def __init__(self, spec: MlaSpec, hidden_size: int, layer: int) -> None:
        """Hold the projections; `w_k` and `w_v` lead from the latent to each head's key and value."""
        super().__init__()
        self.spec = spec
        self.layer = layer
        widths, rank = spec.widths, spec.q_latent_dim
        q_width = widths.num_heads * widths.head_dim
        self.q_down = nn.Identity() if rank is None else nn.Linear(hidden_size, rank, spec.has_bias)
        self.q_norm = nn.Identity() if rank is None else Norm(spec.norm, rank)
        self.q = nn.Linear(hidden_size if rank is None else rank, q_width, bias=False)
        self.kv_down = nn.Linear(hidden_size, widths.row_dim, spec.has_bias)
        self.kv_norm = Norm(spec.norm, widths.latent_dim)
        shape = (widths.num_heads, widths.nope_dim, widths.latent_dim)
        self.w_k = nn.Parameter(torch.empty(shape), requires_grad=False)
        shape = (widths.num_heads, widths.v_head_dim, widths.latent_dim)
        self.w_v = nn.Parameter(torch.empty(shape), requires_grad=False)
        self.o = nn.Linear(widths.num_heads * widths.v_head_dim, hidden_size, spec.has_bias)
        self.indexer = None
        if spec.indexer is not None:
            assert rank is not None, "an indexer reads compressed queries"
            self.indexer = Indexer(spec.indexer, hidden_size, rank)

    @property
    def cache_shape(self) -> LayerShape:
        """One row a token, and beside it what an indexer keeps."""
        indexer = self.spec.indexer
        return LayerShape(1, self.spec.widths.row_dim, 0 if indexer is None else indexer.head_dim)

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""
        spec, widths = self.spec, self.spec.widths
        q_latent = self.q_norm(self.q_down(x))
        q = self.q(q_latent).unflatten(-1, (widths.num_heads, widths.head_dim))
        q_nope, q_rope = q.split([widths.nope_dim, widths.rope_dim], -1)
        q_rope = forward_pass.rotate(spec.position, q_rope)
        rows = self._rows(x, forward_pass)
        kept = rows[..., :0] if self.indexer is None else self.indexer.keys(x, forward_pass)
        stored = forward_pass.extend(self.layer, rows, kept)
        if self.indexer is not None and longest(forward_pass.batch) > self.indexer.spec.num_chosen:
            chosen = self.indexer.choose(x, q_latent, stored, spec.mask, forward_pass)
            out = forward_pass.attend_to_chosen(
                self.layer,
                spec.attention(MlaReading.ABSORBED),
                absorb(q_nope, q_rope, self.w_k),
                absorbed(stored, widths.latent_dim),
                chosen,
            )
            return self.o(project(out, self.w_v).flatten(1))
        reading = spec.reading or reading_of(forward_pass.batch)
        attention = spec.attention(reading)
        if reading is MlaReading.EXPANDED:
            source = ExpandedSource(stored, self.w_k, self.w_v)
            out = forward_pass.attend(self.layer, attention, torch.cat([q_nope, q_rope], -1), source)
        else:
            source = absorbed(stored, widths.latent_dim)
            moved = absorb(q_nope, q_rope, self.w_k)
            out = project(forward_pass.attend(self.layer, attention, moved, source), self.w_v)
        return self.o(out.flatten(1))

    def _rows(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n 1 row"]:
        latent, key = self.kv_down(x)[:, None].split(
            [self.spec.widths.latent_dim, self.spec.widths.rope_dim], -1
        )
        return torch.cat([self.kv_norm(latent), forward_pass.rotate(self.spec.position, key)], -1)


def longest(batch: Batch) -> int:
    """Return how many keys the longest sequence of a batch has."""
    offsets = batch.plan.keys[0].offsets
    return max(stop - start for start, stop in pairwise(offsets))


def reading_of(batch: Batch) -> MlaReading:
    """Return the cheaper reading: a step of one token each absorbs, a longer pass expands."""
    return MlaReading.ABSORBED if max(batch.new_lens) == 1 else MlaReading.EXPANDED


def absorbed(rows: StoredSource, latent_dim: int) -> StoredSource:
    """Return stored rows as one K/V head whose values are the first channels of its keys: no copy."""
    if isinstance(rows, PagedSource):
        scales = None if rows.scales is None else PageScales(rows.scales.k, rows.scales.k)
        return PagedSource(rows.k_pages, rows.k_pages[..., :latent_dim], scales, rows.read_dtype)
    return absorbed_source(rows.k, latent_dim)
