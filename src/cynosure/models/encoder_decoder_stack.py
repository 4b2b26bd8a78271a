"""Compute one side of an encoder-decoder, layer by layer. Knows nothing of the other side or of logits.

Layers attend to themselves, in a decoder to an encoder's output too, and end with a feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, AttentionWeights, DenseSource
from cynosure.attention.positions import T5Bias
from cynosure.core.errors import InputError
from cynosure.models.embedding import embedding
from cynosure.models.encoder_decoder_attention import Attention
from cynosure.models.encoder_decoder_far import FarCall, GlobalTokensAttention, far_attention
from cynosure.models.encoder_decoder_input import FeatureInput, TokenInput
from cynosure.models.encoder_decoder_spec import (
    BlockSums,
    EncoderDecoderSpec,
    FeatureInputSpec,
    GlobalTokens,
    StackSpec,
)
from cynosure.models.forward_pass import ForwardPass, StoredSource
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm


class StackLayer(nn.Module):
    """Self-attention, cross-attention in a decoder, feed-forward: each added to its input, with a norm."""

    def __init__(self, spec: EncoderDecoderSpec, stack: StackSpec, layer: int) -> None:
        """Hold the parts and their norms."""
        super().__init__()
        attention, cross, width = stack.layers[layer], stack.cross_attention, spec.hidden_size
        self.is_pre_norm = spec.is_pre_norm
        self.attention_norm = Norm(spec.norm, width)
        self.attention = Attention(spec, attention, layer)
        self.far = far_attention(spec, stack, layer)
        self.position_table = position_table(attention) if stack.has_bias_in_each else None
        self.cross_norm = nn.Identity() if cross is None else Norm(spec.norm, width)
        self.cross = None if cross is None else Attention(spec, cross, layer)
        self.mlp_norm = Norm(spec.norm, width)
        self.mlp = Mlp(stack.mlp, width)

    def attend_self(
        self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass, weights: AttentionWeights
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens after self-attention; `weights` are those that all layers share."""
        if self.position_table is not None:
            weights = AttentionWeights(position_table=self.position_table)

        def attend(normed: Tensor) -> Tensor:
            new = self.attention.source(normed)
            source = forward_pass.extend(self.attention.layer, new.k, new.v)
            return self.attention(normed, source, forward_pass, weights)

        return self._added(x, attend, self.attention_norm)

    def attend_far(self, x: Float[Tensor, "n hidden"], call: FarCall) -> Float[Tensor, "n hidden"]:
        """Return an encoder's tokens after attention to their neighbourhood and beyond."""
        attention, far, norm = self.attention, self.far, self.attention_norm
        assert far is not None, "this layer attends to its neighbourhood alone"

        def attend(normed: Tensor) -> Tensor:
            return attention.o(far(attention, normed, call))

        if isinstance(far, GlobalTokensAttention):
            num_rows = call.batch.token_ids.shape[0]
            return self._added(x, attend, lambda rows: far.normed(rows, norm, num_rows))
        return self._added(x, attend, norm)

    def attend_across(
        self, x: Float[Tensor, "n hidden"], source: StoredSource, forward_pass: ForwardPass
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens after cross-attention."""
        cross = self.cross
        assert cross is not None, "this layer is an encoder's"
        return self._added(
            x, lambda normed: cross(normed, source, forward_pass, AttentionWeights()), self.cross_norm
        )

    def cross_source(self, hidden: Float[Tensor, "n hidden"]) -> DenseSource:
        """Return the keys and values that cross-attention reads, of an encoder's output."""
        assert self.cross is not None, "this layer is an encoder's"
        return self.cross.source(hidden)

    def feed_forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the tokens after the feed-forward layer."""
        return self._added(x, self.mlp, self.mlp_norm)

    def _added(
        self,
        x: Float[Tensor, "n hidden"],
        part: Callable[[Tensor], Tensor],
        norm: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "n hidden"]:
        return add(x, part(norm(x))) if self.is_pre_norm else norm(add(x, part(x)))


class Stack(nn.Module):
    """What tokens or features enter by, layers, their last norm, and the table of biases that they share."""

    def __init__(self, spec: EncoderDecoderSpec, stack: StackSpec, embed: nn.Embedding | None) -> None:
        """Hold the layers, and share `embed`; a stack that reads features has none."""
        super().__init__()
        self.input = _input(spec, stack, embed)
        self.layers = nn.ModuleList(StackLayer(spec, stack, index) for index in range(len(stack.layers)))
        self.norm = Norm(spec.norm, spec.hidden_size) if stack.has_final_norm else nn.Identity()
        self.position_table = None if stack.has_bias_in_each else position_table(stack.layers[0])
        far = stack.far
        self.far_table = position_table(far.attention) if isinstance(far, BlockSums) else None
        self.globals = embedding(far.num_tokens, spec.hidden_size) if isinstance(far, GlobalTokens) else None
        self._is_far = far is not None

    @property
    def blocks(self) -> Iterator[StackLayer]:
        """The layers, in order."""
        return (cast(StackLayer, layer) for layer in self.layers)

    @property
    def weights(self) -> AttentionWeights:
        """The learned tensors that every layer's self-attention shares."""
        return AttentionWeights(position_table=self.position_table)

    def embedded(self, forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return a batch's tokens as they enter the first layer.

        Raises:
            InputTooLong: a token sits behind the last position that the stack has.
        """
        return self.input(forward_pass.batch.token_ids, forward_pass.batch.positions)

    def encode(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return `x` after all layers of an encoder.

        Raises:
            InputError: attention is watched that is computed in parts.
        """
        if not self._is_far:
            for layer in self.blocks:
                x = layer.feed_forward(layer.attend_self(x, forward_pass, self.weights))
            return self.norm(x)
        if forward_pass.is_watched:
            raise InputError(
                "this encoder's attention is computed in parts and can't be watched. Ask without."
            )
        batch, far = forward_pass.batch, AttentionWeights(position_table=self.far_table)
        call, num_rows = FarCall(batch, self.weights, far, forward_pass.backend), x.shape[0]
        if self.globals is not None:
            # One set of learned tokens a sequence, behind the rows of all sequences.
            x = torch.cat([x, self.globals.weight.repeat(batch.plan.num_seqs, 1)])
        for layer in self.blocks:
            x = layer.feed_forward(layer.attend_far(x, call))
        return self.norm(x[:num_rows])


def add(x: Float[Tensor, "n hidden"], change: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
    """Return the residual sum; in float16, whose range T5's sums outgrow, infinities become the largest."""
    total = x + change
    if total.dtype != torch.float16:
        return total
    limit = torch.finfo(torch.float16).max
    return total.clamp(-limit, limit)


def position_table(attention: AttentionSpec) -> nn.Parameter | None:
    """Return an empty table of biases by distance, where attention reads one."""
    position = attention.position
    if not isinstance(position, T5Bias):
        return None
    table = torch.empty(position.num_buckets, attention.heads.num_heads)
    return nn.Parameter(table, requires_grad=False)


def _input(spec: EncoderDecoderSpec, stack: StackSpec, embed: nn.Embedding | None) -> nn.Module:
    if isinstance(stack.inputs, FeatureInputSpec):
        return FeatureInput(stack.inputs, spec.hidden_size)
    assert embed is not None, "tokens need an embedding"
    return TokenInput(stack.inputs, embed)
