"""Run an encoder, and a decoder that attends to its output. Knows nothing of checkpoints or sampling.

The encoder's output becomes keys and values of every decoder layer once a request (`Memory`); each step's
cross-attention is an `attend` call of its own over them, with its own softmax.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    AttentionWeights,
    DenseSource,
    KeyPlan,
    Watch,
)
from cynosure.attention.positions import T5Bias
from cynosure.cache import ContiguousCache, LayerShape
from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.batch import Batch
from cynosure.models.embedding import embedding
from cynosure.models.encoder import EncoderOutput
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, StackSpec
from cynosure.models.forward_pass import ForwardPass, KeyValueCache, StoredSource
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm


@dataclass(frozen=True, eq=False)
class Memory:
    """What cross-attention reads: keys and values of encoded requests, for each decoder layer.

    `keys` say where they sit; segments and denials of the encoder's plan hold in cross-attention too.
    """

    sources: tuple[StoredSource, ...]
    keys: KeyPlan
    num_segments: int


@dataclass(frozen=True, eq=False)
class Encoded(Memory):
    """The same, fresh from the encoder, with the packed output that it was made from."""

    output: EncoderOutput


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoder's packed output, and what was observed of its self- and cross-attention, by layer."""

    hidden: Float[Tensor, "n hidden"]
    states: dict[int, AttentionState]
    cross_states: dict[int, AttentionState]


class Attention(nn.Module):
    """Projections without bias around one `attend` call."""

    def __init__(self, spec: AttentionSpec, hidden_size: int, layer: int) -> None:
        """Hold `q`, `k`, `v` and `o`."""
        super().__init__()
        heads = spec.heads
        self.spec = spec
        self.layer = layer
        self.q = nn.Linear(hidden_size, heads.num_heads * heads.head_dim, bias=False)
        self.k = nn.Linear(hidden_size, heads.num_kv_heads * heads.head_dim, bias=False)
        self.v = nn.Linear(hidden_size, heads.num_kv_heads * heads.v_head_dim, bias=False)
        self.o = nn.Linear(heads.num_heads * heads.v_head_dim, hidden_size, bias=False)

    def source(self, x: Float[Tensor, "n hidden"]) -> DenseSource:
        """Return the keys and values of `x`."""
        shape = (self.spec.heads.num_kv_heads, -1)
        return DenseSource(self.k(x).unflatten(-1, shape), self.v(x).unflatten(-1, shape))

    def forward(
        self,
        x: Float[Tensor, "n hidden"],
        source: StoredSource,
        forward_pass: ForwardPass,
        weights: AttentionWeights,
    ) -> Float[Tensor, "n hidden"]:
        """Return what each token of `x` took from `source`."""
        q = self.q(x).unflatten(-1, (self.spec.heads.num_heads, -1))
        return self.o(forward_pass.attend(self.layer, self.spec, q, source, weights).flatten(1))


class StackLayer(nn.Module):
    """Self-attention, cross-attention in a decoder, feed-forward: each on normalised input, each added."""

    def __init__(self, spec: EncoderDecoderSpec, stack: StackSpec, layer: int) -> None:
        """Hold the sublayers and their norms."""
        super().__init__()
        cross, width = stack.cross_attention, spec.hidden_size
        self.attention_norm = Norm(spec.norm, width)
        self.attention = Attention(stack.attention, width, layer)
        self.cross_norm = nn.Identity() if cross is None else Norm(spec.norm, width)
        self.cross = None if cross is None else Attention(cross, width, layer)
        self.mlp_norm = Norm(spec.norm, width)
        self.mlp = Mlp(spec.mlp, width)

    def attend_self(
        self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass, weights: AttentionWeights
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens after self-attention."""
        normed = self.attention_norm(x)
        new = self.attention.source(normed)
        source = forward_pass.extend(self.attention.layer, new.k, new.v)
        return add(x, self.attention(normed, source, forward_pass, weights))

    def attend_across(
        self, x: Float[Tensor, "n hidden"], source: StoredSource, forward_pass: ForwardPass
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens after cross-attention."""
        assert self.cross is not None, "this layer is an encoder's"
        return add(x, self.cross(self.cross_norm(x), source, forward_pass, AttentionWeights()))

    def cross_source(self, hidden: Float[Tensor, "n hidden"]) -> DenseSource:
        """Return the keys and values that cross-attention reads, of an encoder's output."""
        assert self.cross is not None, "this layer is an encoder's"
        return self.cross.source(hidden)

    def feed_forward(self, x: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """Return the tokens after the feed-forward layer."""
        return add(x, self.mlp(self.mlp_norm(x)))


class Stack(nn.Module):
    """Layers, their last norm, and the table of position biases that they share."""

    def __init__(self, spec: EncoderDecoderSpec, stack: StackSpec, embed: nn.Embedding) -> None:
        """Hold the layers, and share `embed`."""
        super().__init__()
        self.embed = embed
        self.layers = nn.ModuleList(StackLayer(spec, stack, index) for index in range(stack.num_layers))
        self.norm = Norm(spec.norm, spec.hidden_size)
        position = stack.attention.position
        self.position_table = None
        if isinstance(position, T5Bias):
            table = torch.empty(position.num_buckets, stack.attention.heads.num_heads)
            self.position_table = nn.Parameter(table, requires_grad=False)

    @property
    def blocks(self) -> Iterator[StackLayer]:
        """The layers, in order."""
        return (cast(StackLayer, layer) for layer in self.layers)

    @property
    def weights(self) -> AttentionWeights:
        """The learned tensors of every layer's self-attention."""
        return AttentionWeights(position_table=self.position_table)

    def encode(self, forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after all layers of an encoder."""
        x = self.embed(forward_pass.batch.token_ids)
        for layer in self.blocks:
            x = layer.feed_forward(layer.attend_self(x, forward_pass, self.weights))
        return self.norm(x)


class StackedEncoder(nn.Module):
    """An encoder alone."""

    def __init__(self, spec: EncoderDecoderSpec) -> None:
        """Hold the embedding and the stack."""
        super().__init__()
        self.spec = spec
        self.embed = embedding(spec.vocab_size, spec.hidden_size)
        self.encoder = Stack(spec, spec.encoder, self.embed)

    def forward(
        self,
        batch: Batch,
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
    ) -> EncoderOutput:
        """Return the hidden states of all tokens, and what was observed.

        Raises:
            InputTooLong: a sequence is longer than was declared.
            InputError: a token does not exist.
        """
        _check(self.spec, batch)
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        return EncoderOutput(self.encoder.encode(forward_pass), states=forward_pass.states)


class EncoderDecoder(nn.Module):
    """An encoder, a decoder and a projection to the vocabulary."""

    def __init__(self, spec: EncoderDecoderSpec) -> None:
        """Hold both stacks and the projection; the stacks share the embedding."""
        super().__init__()
        assert spec.decoder is not None
        self.spec = spec
        self.embed = embedding(spec.vocab_size, spec.hidden_size)
        self.encoder = Stack(spec, spec.encoder, self.embed)
        self.decoder = Stack(spec, spec.decoder, self.embed)
        self.head = nn.Linear(spec.hidden_size, spec.vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.embed.weight.dtype

    @property
    def cache_shapes(self) -> tuple[LayerShape, ...]:
        """What the decoder's self-attention keeps of a token, layer by layer."""
        assert self.spec.decoder is not None
        return (_shape_of(self.spec.decoder.attention),) * self.spec.decoder.num_layers

    def new_cache(self, num_seqs: int, max_len: int) -> ContiguousCache:
        """Return an empty cache of self-attention for `num_seqs` answers of at most `max_len` tokens."""
        return ContiguousCache(self.cache_shapes, num_seqs, max_len, self.dtype)

    def encode(
        self,
        batch: Batch,
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
    ) -> Encoded:
        """Encode all sequences of `batch`, and project them to every decoder layer's keys and values.

        Raises:
            InputTooLong: a sequence is longer than was declared.
            InputError: a token does not exist.
        """
        _check(self.spec, batch)
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        output = EncoderOutput(self.encoder.encode(forward_pass), states=forward_pass.states)
        sources = tuple(layer.cross_source(output.hidden) for layer in self.decoder.blocks)
        keys = replace(batch.plan.keys[0], is_always_visible=True)
        return Encoded(sources, keys, batch.plan.num_segments, output)

    def decode(
        self,
        batch: Batch,
        cache: KeyValueCache | None,
        encoded: Memory,
        *,
        watch: Watch | None = None,
        cross_watch: Watch | None = None,
        backend: str = "auto",
    ) -> Decoded:
        """Return the decoder's hidden states of the batch's tokens, which `cache` then holds.

        Args:
            batch: new tokens of each answer, in the order in which the requests were encoded.
            cache: self-attention's keys and values so far; `None` where the batch is all there is.
            encoded: what the requests were encoded to.
            watch: what to observe in self-attention.
            cross_watch: what to observe in cross-attention.
            backend: of attention, by name.

        Raises:
            InputTooLong: the cache has no room for the new tokens; nothing was written.
            InputError: a token does not exist.
        """
        _check(self.spec, batch)
        own = ForwardPass(batch, cache, watch=watch, backend=backend)
        plan = AttentionPlan(batch.plan.queries, (encoded.keys,), encoded.num_segments)
        across = ForwardPass(replace(batch, plan=plan), watch=cross_watch, backend=backend)
        x = self.embed(batch.token_ids)
        for layer, source in zip(self.decoder.blocks, encoded.sources, strict=True):
            x = layer.attend_self(x, own, self.decoder.weights)
            x = layer.attend_across(x, source, across)
            x = layer.feed_forward(x)
        own.finish()
        return Decoded(self.decoder.norm(x), own.states, across.states)

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.head(hidden * self.spec.logit_scale)


def _shape_of(spec: AttentionSpec) -> LayerShape:
    return LayerShape(spec.heads.num_kv_heads, spec.heads.head_dim, spec.heads.v_head_dim)


def add(x: Float[Tensor, "n hidden"], change: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
    """Return the residual sum; in float16, whose range T5's sums outgrow, infinities become the largest."""
    total = x + change
    if total.dtype != torch.float16:
        return total
    limit = torch.finfo(torch.float16).max
    return total.clamp(-limit, limit)


def _check(spec: EncoderDecoderSpec, batch: Batch) -> None:
    """Refuse what the embedding or the declared length can't hold."""
    longest = int(batch.positions.max()) + 1
    if spec.max_model_len is not None and longest > spec.max_model_len:
        raise InputTooLong(
            f"a sequence has {longest} tokens; max_model_len is {spec.max_model_len}. Shorten it, or declare "
            "more."
        )
    low, high = int(batch.token_ids.min()), int(batch.token_ids.max())
    if low < 0 or high >= spec.vocab_size:
        raise InputError(
            f"token ids from {low} to {high} were given; the model has 0..{spec.vocab_size - 1}. Use its own "
            "tokenizer."
        )
