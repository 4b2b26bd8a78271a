"""Run a stack of bidirectional layers over packed tokens. Knows nothing of brands, files or text.

BERT (arXiv 1810.04805), ModernBERT (2412.13663) and MPNet (2004.09297) are three specs of this graph.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionState, AttentionWeights, DenseSource, Watch
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.masks.extent import counts_keys
from cynosure.attention.positions import Disentangled, Rotary, T5Bias
from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.batch import Batch
from cynosure.models.convolution import Convolution
from cynosure.models.distances import DistanceProjections, DistanceTable, SharedDistances
from cynosure.models.embedding import dtype_of, embedding
from cynosure.models.encoder_spec import EmbeddingSpec, EncoderSpec, LayerStack
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.global_rows import GlobalRows
from cynosure.models.heads import Head
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm
from cynosure.models.pooling import pool
from cynosure.models.pooling_kind import Pooling


@dataclass(frozen=True, eq=False)
class EncoderOutput:
    """What a forward pass gives: packed hidden states, and what was observed in each watched layer."""

    hidden: Float[Tensor, "n hidden"]
    states: dict[int, AttentionState]


@dataclass(frozen=True, eq=False)
class SharedInput:
    """What all layers of one pass read besides tokens: a table of biases, or vectors of distances."""

    weights: AttentionWeights = NO_WEIGHTS
    distances: SharedDistances | None = None


NO_INPUT = SharedInput()


@runtime_checkable
class WholePass(Protocol):
    """What computes an encoder's pass by itself, in the place of its modules."""

    def takes(self, batch: Batch) -> bool:
        """Whether it can compute this batch."""
        ...

    def run(self, batch: Batch) -> Float[Tensor, "n hidden"]:
        """Return the last hidden states, in float32."""
        ...

    def pooled(self, batch: Batch, kind: Pooling) -> Float[Tensor, "num_seqs hidden"]:
        """Return one vector a sequence, in float32."""
        ...


class TokenEmbeddings(nn.Module):
    """Add up token, position and type vectors, then normalise where the spec has a norm."""

    def __init__(self, spec: EmbeddingSpec, hidden_size: int) -> None:
        """Hold the tables that the spec asks for."""
        super().__init__()
        self.spec = spec
        self.token = embedding(spec.vocab_size, hidden_size)
        rows = spec.num_positions + spec.position_offset
        self.position = embedding(rows, hidden_size) if spec.num_positions else None
        self.token_type = embedding(spec.num_types, hidden_size) if spec.num_types else None
        self.norm = nn.Identity() if spec.norm is None else Norm(spec.norm, hidden_size)

    def forward(self, batch: Batch) -> Float[Tensor, "n hidden"]:
        """Return the first hidden states."""
        x = self.token(batch.token_ids)
        if self.token_type is not None:
            types = torch.zeros_like(batch.token_ids) if batch.type_ids is None else batch.type_ids
            x = x + self.token_type(types)
        if self.position is not None:
            x = x + self.position(batch.positions + self.spec.position_offset)
        return self.norm(x)


class EncoderAttention(nn.Module):
    """Self-attention in which every token sees what the layer's mask allows, before and after it."""

    def __init__(self, spec: LayerStack, layer: int) -> None:
        """Hold one projection for queries, keys and values, and one for the output."""
        super().__init__()
        self.spec = spec.layers[layer].attention
        self.layer = layer
        width = self.spec.heads.num_heads * self.spec.heads.head_dim
        self.qkv = nn.Linear(spec.hidden_size, 3 * width, spec.has_attention_bias)
        self.out = nn.Linear(width, spec.hidden_size, spec.has_attention_bias)
        num_global = spec.layers[layer].num_global
        self.far = (
            GlobalRows(self.spec, spec.hidden_size, num_global, spec.has_attention_bias)
            if num_global
            else None
        )
        self.distances = None
        if spec.distances is not None and isinstance(self.spec.position, Disentangled):
            self.distances = DistanceProjections(
                spec.distances, self.spec.position, self.spec.heads, spec.hidden_size
            )

    def forward(
        self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass, shared: SharedInput = NO_INPUT
    ) -> Float[Tensor, "n hidden"]:
        """Return what each token took from those it may attend to."""
        heads, position = self.spec.heads, self.spec.position
        weights = shared.weights
        if self.distances is not None:
            assert shared.distances is not None
            weights = self.distances(shared.distances, self.qkv)
        q, k, v = self.qkv(x).view(x.shape[0], 3, heads.num_heads, heads.head_dim).unbind(1)
        if isinstance(position, Rotary):
            q, k = forward_pass.rotate(position, q), forward_pass.rotate(position, k)
        out = forward_pass.attend(self.layer, self.spec, q, DenseSource(k, v), weights)
        out = out if self.far is None else self.far(x, out, forward_pass)
        return self.out(out.flatten(1))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward layer around the residual stream."""

    def __init__(self, spec: LayerStack, layer: int) -> None:
        """Hold both halves and their norms."""
        super().__init__()
        has_norm = spec.layers[layer].has_attention_norm
        self.is_pre_norm = spec.is_pre_norm
        self.attention = EncoderAttention(spec, layer)
        self.attention_norm = Norm(spec.norm, spec.hidden_size) if has_norm else nn.Identity()
        self.mlp = Mlp(spec.mlp, spec.hidden_size)
        self.mlp_norm = Norm(spec.norm, spec.hidden_size)

    def forward(
        self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass, shared: SharedInput = NO_INPUT
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer."""
        if self.is_pre_norm:
            x = x + self.attention(self.attention_norm(x), forward_pass, shared)
            return x + self.mlp(self.mlp_norm(x))
        x = self.attention_norm(x + self.attention(x, forward_pass, shared))
        return self.mlp_norm(x + self.mlp(x))


class Encoder(nn.Module):
    """The whole graph; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: EncoderSpec) -> None:
        """Hold embeddings, layers, a last norm where layers are pre-norm, and the head where there is one.

        Layers whose positions are a table of biases share one.
        """
        super().__init__()
        self.spec = spec
        self.embeddings = TokenEmbeddings(spec.embeddings, spec.hidden_size)
        self.layers = nn.ModuleList(EncoderLayer(spec, layer) for layer in range(len(spec.layers)))
        beside = spec.convolution
        self.convolution = None if beside is None else Convolution(beside, spec.norm, spec.hidden_size)
        self.position_table = _position_table(spec)
        self.distances = _distance_table(spec)
        self.final_norm = Norm(spec.norm, spec.hidden_size) if spec.is_pre_norm else nn.Identity()
        #: Where there is one, it computes what is not watched.
        self.program: WholePass | None = None
        self._counts_keys = any(counts_keys(layer.attention.mask) for layer in spec.layers)
        self.head = None if spec.head is None else Head(spec.head, spec.hidden_size)
        if self.head is not None and self.head.spec.is_tied:
            self.head.output.weight = self.embeddings.token.weight

    def forward(
        self,
        batch: Batch,
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
    ) -> EncoderOutput:
        """Return the hidden states of whole sequences; there is no cache, since every token sees all others.

        Raises:
            InputTooLong: a sequence is longer than the model.
            InputError: a token or type id does not exist; or texts are padded, and padding would be counted.
        """
        self._check(batch)
        if watch is None and (program := self._program_for(batch, backend)) is not None:
            return EncoderOutput(program.run(batch).to(self.dtype), {})
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        x = self.embeddings(batch)
        table = self.position_table
        shared = SharedInput(
            AttentionWeights(position_table=None if table is None else table.weight),
            None if self.distances is None else self.distances(max(batch.new_lens)),
        )
        first = x
        for index, layer in enumerate(self.layers):
            x = layer(x, forward_pass, shared)
            if index == 0 and self.convolution is not None:
                x = self.convolution(first, x, batch)
        return EncoderOutput(self.final_norm(x), forward_pass.states)

    def pooled(self, batch: Batch, kind: Pooling, backend: str = "auto") -> Float[Tensor, "num_seqs hidden"]:
        """Return one vector a sequence, in float32 at least; raises what `forward` raises."""
        if (program := self._program_for(batch, backend)) is not None:
            self._check(batch)
            return program.pooled(batch, kind)
        hidden = self(batch, backend=backend).hidden
        return pool(kind, hidden if hidden.dtype == torch.float64 else hidden.float(), batch)

    def answers(self, batch: Batch, backend: str = "auto") -> Float[Tensor, "rows outputs"]:
        """Return what the head says of each sequence, or of each token, from the tokens on.

        Raises:
            InputError: the checkpoint has no head; or what `forward` raises.
        """
        if self.head is not None and (kind := self.head.spec.pooling) is not None:
            return self.head.answers(self.pooled(batch, kind, backend).to(self.dtype))
        return self.logits(self(batch, backend=backend).hidden, batch)

    @property
    def dtype(self) -> torch.dtype:
        """Of the hidden states."""
        return dtype_of(self.embeddings.token)

    def logits(self, hidden: Float[Tensor, "n hidden"], batch: Batch) -> Float[Tensor, "rows outputs"]:
        """Return what the head says of each sequence, or of each token.

        Raises:
            InputError: the checkpoint has no head.
        """
        if self.head is None:
            raise InputError("this encoder has no head: it gives hidden states. Load a model with a head.")
        return self.head(hidden, batch)

    def _program_for(self, batch: Batch, backend: str) -> WholePass | None:
        is_free = backend in ("auto", "native")
        return self.program if is_free and self.program is not None and self.program.takes(batch) else None

    def _check(self, batch: Batch) -> None:
        longest = max(batch.new_lens)
        if longest > self.spec.max_model_len:
            raise InputTooLong(
                f"a sequence has {longest} tokens; the model reads {self.spec.max_model_len}. Split the text."
            )
        if self._counts_keys and batch.plan.keys[0].is_pad is not None:
            raise InputError(
                "this encoder attends by how long a text is, and padding would count. Pack the texts in the "
                "place of padding them."
            )
        _check_ids("token", batch.token_ids, self.spec.embeddings.vocab_size)
        if batch.type_ids is not None:
            _check_ids("type", batch.type_ids, max(1, self.spec.embeddings.num_types))


def _position_table(spec: EncoderSpec) -> nn.Embedding | None:
    """Return the table of biases by distance, where a layer reads one."""
    attention = spec.layers[0].attention
    if not isinstance(attention.position, T5Bias):
        return None
    return embedding(attention.position.num_buckets, attention.heads.num_heads)


def _distance_table(spec: EncoderSpec) -> DistanceTable | None:
    """Return the vectors of distances, where layers read such."""
    position = spec.layers[0].attention.position
    if spec.distances is None or not isinstance(position, Disentangled):
        return None
    return DistanceTable(spec.distances, position, spec.hidden_size)


def _check_ids(name: str, ids: Int[Tensor, " n"], limit: int) -> None:
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= limit:
        raise InputError(
            f"{name} ids from {low} to {high} were given; the model has 0..{limit - 1}. Use its tokenizer."
        )
