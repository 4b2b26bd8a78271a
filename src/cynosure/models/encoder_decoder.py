"""Run an encoder, and a decoder that attends to its output. Knows nothing of checkpoints or sampling.

The encoder's output becomes keys and values of every decoder layer once a request (`Memory`); each step's
cross-attention is an `attend` call of its own over them, with its own softmax.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionState,
    KeyPlan,
    Watch,
)
from cynosure.cache import ContiguousCache, LayerShape
from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.batch import Batch
from cynosure.models.embedding import dtype_of, embedding
from cynosure.models.encoder import EncoderOutput
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec
from cynosure.models.encoder_decoder_stack import Stack
from cynosure.models.forward_pass import ForwardPass, KeyValueCache, StoredSource


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
        _check(batch, self.spec.vocab_size, self.spec.max_input_len, "max_input_len")
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        hidden = self.encoder.encode(self.encoder.embedded(forward_pass), forward_pass)
        return EncoderOutput(hidden, states=forward_pass.states)


class EncoderDecoder(nn.Module):
    """An encoder, a decoder and a projection to the vocabulary."""

    def __init__(self, spec: EncoderDecoderSpec) -> None:
        """Hold both stacks and the projection; stacks that read tokens share the embedding."""
        super().__init__()
        assert spec.decoder is not None
        self.spec = spec
        self.embed = embedding(spec.vocab_size, spec.hidden_size)
        self.encoder = Stack(spec, spec.encoder, None if spec.features else self.embed)
        self.decoder = Stack(spec, spec.decoder, self.embed)
        self.head = nn.Linear(spec.hidden_size, spec.vocab_size, spec.has_logit_bias)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return dtype_of(self.embed)

    @property
    def cache_shapes(self) -> tuple[LayerShape, ...]:
        """What the decoder's self-attention keeps of a token, layer by layer."""
        assert self.spec.decoder is not None
        return tuple(map(_shape_of, self.spec.decoder.layers))

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
            InputError: a token does not exist, or the model reads features.
        """
        if self.spec.features is not None:
            raise InputError("the encoder reads features, and tokens were given. Encode features.")
        _check(batch, self.spec.vocab_size, self.spec.max_input_len, "max_input_len")
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        return self._encoded(self.encoder.embedded(forward_pass), forward_pass)

    def encode_features(
        self,
        features: Float[Tensor, "inputs bins frames"],
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
    ) -> Encoded:
        """Encode inputs that are frames of numbers, as `encode` does tokens.

        Raises:
            InputError: the model reads tokens, or features of another shape.
        """
        if self.spec.features is None:
            raise InputError("the encoder reads tokens, and features were given. Encode tokens.")
        hidden = self.encoder.input(features)
        # Of tokens there are none; what is laid out is where the positions of each input sit.
        batch = Batch.pack([[0] * self.spec.features.num_positions] * features.shape[0])
        return self._encoded(hidden, ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend))

    def _encoded(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Encoded:
        plan = forward_pass.batch.plan
        output = EncoderOutput(self.encoder.encode(x, forward_pass), states=forward_pass.states)
        sources = tuple(layer.cross_source(output.hidden) for layer in self.decoder.blocks)
        keys = replace(plan.keys[0], is_always_visible=True)
        return Encoded(sources, keys, plan.num_segments, output)

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
        _check(batch, self.spec.vocab_size, self.spec.max_model_len, "max_model_len")
        own = ForwardPass(batch, cache, watch=watch, backend=backend)
        plan = AttentionPlan(batch.plan.queries, (encoded.keys,), encoded.num_segments)
        across = ForwardPass(replace(batch, plan=plan), watch=cross_watch, backend=backend)
        x = self.decoder.embedded(own)
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


def _check(batch: Batch, vocab_size: int, limit: int | None, name: str) -> None:
    """Refuse what the embedding or the declared length can't hold."""
    longest = int(batch.positions.max()) + 1
    if limit is not None and longest > limit:
        raise InputTooLong(
            f"a sequence has {longest} tokens; {name} is {limit}. Shorten it, or declare more."
        )
    low, high = int(batch.token_ids.min()), int(batch.token_ids.max())
    if low < 0 or high >= vocab_size:
        raise InputError(
            f"token ids from {low} to {high} were given; the model has 0..{vocab_size - 1}. Use its own "
            "tokenizer."
        )
