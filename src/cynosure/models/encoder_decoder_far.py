"""Let an encoder's tokens attend beyond their neighbourhood. Knows nothing of what stands around attention.

What is near and what is far are two sources, attended to apart; their states merge into the state of both.
Far are sums of blocks, learned tokens, or the first token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionWeights,
    DenseSource,
    KeyPlan,
    QueryPlan,
    attend,
    merge,
)
from cynosure.attention.masks import Full
from cynosure.attention.plan import cumulative
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.encoder_decoder_attention import Attention
from cynosure.models.encoder_decoder_spec import BlockSums, EncoderDecoderSpec, GlobalTokens, StackSpec
from cynosure.models.norm import Norm


@dataclass(frozen=True, eq=False)
class FarCall:
    """What all layers of a pass share: its tokens, the tables of near and far biases, the backend's name."""

    batch: Batch
    near: AttentionWeights
    far: AttentionWeights
    backend: str


class Far(nn.Module, ABC):
    """What takes the place of a layer's self-attention."""

    @abstractmethod
    def forward(
        self,
        attention: Attention,
        x: Float[Tensor, "n hidden"],
        call: FarCall,
    ) -> Float[Tensor, "n width"]:
        """Return what each row of `x` took, all heads side by side, by the layer's projections."""


class SumsAttention(Far):
    """Attend to sums of blocks, normalised."""

    def __init__(self, spec: EncoderDecoderSpec, sums: BlockSums) -> None:
        """Hold the norm of the sums."""
        super().__init__()
        self.spec = sums
        self.norm = Norm(spec.norm, spec.hidden_size)

    def forward(
        self,
        attention: Attention,
        x: Float[Tensor, "n hidden"],
        call: FarCall,
    ) -> Float[Tensor, "n width"]:
        """Return what each token took from its neighbours and from the sums of its sequence.

        Raises:
            InputError: some keys are denied, which a sum can't leave out.
        """
        plan, backend = call.batch.plan, call.backend
        if plan.keys[0].bias is not None:
            raise InputError(
                "some of the input is denied or weighed; this encoder attends to sums over all of it. Leave "
                "the bias out."
            )
        blocks = _blocks(plan, self.spec.block_size)
        q, near = attention.queries(x), attention.source(x)
        state = attend(attention.spec, q, [near], plan, weights=call.near, backend=backend)
        num_sums = int(blocks.plan.keys[0].offsets[-1])
        if num_sums:
            sums = x.new_zeros(num_sums, x.shape[1]).index_add_(0, blocks.owners, x[blocks.rows])
            far = attention.source(self.norm(sums))
            state = merge(
                state,
                attend(self.spec.attention, q, [far], blocks.plan, weights=call.far, backend=backend),
            )
        return state.out.to(x.dtype).flatten(1)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Which rows are summed up where, and where queries find the sums."""

    rows: Int[Tensor, " m"]
    owners: Int[Tensor, " m"]
    plan: AttentionPlan


def _blocks(plan: AttentionPlan, size: int) -> _Blocks:
    """Lay out the blocks of every sequence; once a pass, for all layers."""
    place = ("sums of blocks", size)
    if place not in plan.memo:
        keys = plan.keys[0]
        real = torch.ones_like(keys.positions, dtype=torch.bool) if keys.is_pad is None else ~keys.is_pad
        rows, owners, counts = [], [], []
        positions = keys.positions // size
        for start, stop in zip(keys.offsets[:-1], keys.offsets[1:], strict=True):
            num_blocks = int(real[start:stop].sum()) // size
            positions[start:stop].clamp_(max=max(0, num_blocks - 1))
            if num_blocks:
                mine = torch.arange(start, stop)[real[start:stop]]
                rows.append(mine)
                owners.append(positions[mine] + sum(counts))
            counts.append(num_blocks)
        places = torch.cat([torch.arange(count) for count in counts])
        queries = replace(plan.queries, positions=positions)
        far = AttentionPlan(queries, (KeyPlan(cumulative(counts), places),))
        empty = torch.zeros(0, dtype=torch.int64)
        plan.memo[place] = _Blocks(torch.cat([empty, *rows]), torch.cat([empty, *owners]), far)
    return plan.memo[place]


class GlobalTokensAttention(Far):
    """Attend to the learned tokens of a sequence, whose rows come behind all others."""

    def __init__(self, spec: EncoderDecoderSpec, tokens: GlobalTokens, layer: int) -> None:
        """Hold the norm of the learned tokens."""
        super().__init__()
        self.num_tokens = tokens.num_tokens
        self.shift = tokens.shift if layer % 2 else 0
        self.norm = Norm(spec.norm, spec.hidden_size)

    def normed(
        self, x: Float[Tensor, "n hidden"], norm: nn.Module, num_rows: int
    ) -> Float[Tensor, "n hidden"]:
        """Return tokens under the layer's norm, and learned tokens under their own."""
        return torch.cat([norm(x[:num_rows]), self.norm(x[num_rows:])])

    def forward(
        self,
        attention: Attention,
        x: Float[Tensor, "n hidden"],
        call: FarCall,
    ) -> Float[Tensor, "n width"]:
        """Return what tokens took from their block and the learned tokens, and those from all."""
        plan, backend, num_rows = call.batch.plan, call.backend, call.batch.token_ids.shape[0]
        counts = [self.num_tokens] * plan.num_seqs
        places = torch.arange(self.num_tokens).repeat(plan.num_seqs)
        learned = KeyPlan(cumulative(counts), places)
        every = AttentionSpec(attention.spec.heads, Full())
        q, source = attention.queries(x), attention.source(x)
        near = DenseSource(source.k[:num_rows], source.v[:num_rows])
        far = DenseSource(source.k[num_rows:], source.v[num_rows:])
        state = merge(
            attend(attention.spec, q[:num_rows], [near], _shifted(plan, self.shift), backend=backend),
            attend(every, q[:num_rows], [far], AttentionPlan(plan.queries, (learned,)), backend=backend),
        )
        whole = AttentionPlan(QueryPlan(learned.cu_seqlens, places), (plan.keys[0], learned))
        ours = attend(every, q[num_rows:], [near, far], whole, backend=backend)
        return torch.cat([state.out, ours.out]).to(x.dtype).flatten(1)


def _shifted(plan: AttentionPlan, shift: int) -> AttentionPlan:
    """Move all positions; once a pass, for all layers that do."""
    if not shift:
        return plan
    place = ("shifted positions", shift)
    if place not in plan.memo:
        keys = replace(plan.keys[0], positions=plan.keys[0].positions + shift)
        queries = replace(plan.queries, positions=plan.queries.positions + shift)
        plan.memo[place] = AttentionPlan(queries, (keys,))
    return plan.memo[place]


class FirstTokenAttention(Far):
    """Attend to the first token, which attends to all by projections of its own."""

    def __init__(self, spec: EncoderDecoderSpec, stack: StackSpec, layer: int) -> None:
        """Hold its queries, and the keys and values that it reads."""
        super().__init__()
        self.own = Attention(spec, stack.layers[layer], layer, has_output=False)

    def forward(
        self,
        attention: Attention,
        x: Float[Tensor, "n hidden"],
        call: FarCall,
    ) -> Float[Tensor, "n width"]:
        """Return what each token took; the mask of the layer lets all see the first."""
        plan, backend = call.batch.plan, call.backend
        state = attend(attention.spec, attention.queries(x), [attention.source(x)], plan, backend=backend)
        firsts = _first_rows(plan)
        counts = [1] * plan.num_seqs
        queries = QueryPlan(cumulative(counts), torch.zeros(plan.num_seqs, dtype=torch.int64))
        every = AttentionSpec(attention.spec.heads, Full())
        first = attend(
            every,
            self.own.queries(x[firsts]),
            [self.own.source(x)],
            AttentionPlan(queries, plan.keys[:1]),
            backend=backend,
        )
        return state.out.index_copy(0, firsts, first.out).to(x.dtype).flatten(1)


def _first_rows(plan: AttentionPlan) -> Int[Tensor, " num_seqs"]:
    """Row of each sequence's first token; padding may come before it."""
    starts = plan.queries.cu_seqlens[:-1]
    pads = plan.keys[0].is_pad
    if pads is None:
        return starts
    spans = zip(plan.queries.offsets[:-1], plan.queries.offsets[1:], strict=True)
    return torch.tensor([start + int(pads[start:stop].int().argmin()) for start, stop in spans])


def far_attention(spec: EncoderDecoderSpec, stack: StackSpec, layer: int) -> Far | None:
    """Make what a layer attends beyond its neighbourhood with; `None` where it does not."""
    far = stack.far
    if far is None:
        return None
    if isinstance(far, BlockSums):
        return SumsAttention(spec, far)
    if isinstance(far, GlobalTokens):
        return GlobalTokensAttention(spec, far, layer)
    return FirstTokenAttention(spec, stack, layer)
