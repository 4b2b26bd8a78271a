"""Run a decoder's graph: tokens in, hidden states and logits out. Knows nothing of files or sampling."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionState, Watch
from cynosure.cache import BLOCK_SIZE, ContiguousCache, PagedCache, StateStore, cache_dtype
from cynosure.core.errors import InputTooLong
from cynosure.models.altup import AltUpEnds
from cynosure.models.altup_layer import AltUpLayer
from cynosure.models.batch import Batch
from cynosure.models.decoder_spec import AttentionBlockSpec, DecoderSpec, FeedForwardSpec, LayerSpec
from cynosure.models.differential_attention import DifferentialAttention, DifferentialSpec
from cynosure.models.embedding import dtype_of, embedding
from cynosure.models.forward_pass import AttentionBlock, ForwardPass, KeyValueCache
from cynosure.models.gated_delta import GatedDeltaMixer, GatedDeltaSpec
from cynosure.models.mixer_block import MixerBlock
from cynosure.models.mixer_layer import MixerLayer
from cynosure.models.mla_attention import MlaAttention, MlaSpec
from cynosure.models.mlp import Mlp
from cynosure.models.moe import Moe, MoeSpec
from cynosure.models.norm import Norm
from cynosure.models.real_gated import RealGatedMixer, RealGatedSpec
from cynosure.models.self_attention import SelfAttention
from cynosure.models.shared_attention import SharedAttention, SharedAttentionSpec
from cynosure.models.state_space import StateSpaceMixer, StateSpaceSpec
from cynosure.models.watching import Observer


@dataclass(frozen=True, eq=False)
class Output:
    """What a forward pass gives: packed hidden states, and what was observed in each watched layer."""

    hidden: Float[Tensor, "n hidden"]
    states: dict[int, AttentionState]


def attention_block(spec: AttentionBlockSpec, hidden_size: int, layer: int) -> AttentionBlock:
    """Make the attention half of a layer."""
    if isinstance(spec, MlaSpec):
        return MlaAttention(spec, hidden_size, layer)
    if isinstance(spec, DifferentialSpec):
        return DifferentialAttention(spec, hidden_size, layer)
    if isinstance(spec, SharedAttentionSpec):
        return SharedAttention(spec, hidden_size, layer)
    if isinstance(spec, StateSpaceSpec):
        return StateSpaceMixer(spec, hidden_size, layer)
    if isinstance(spec, GatedDeltaSpec):
        return GatedDeltaMixer(spec, hidden_size, layer)
    if isinstance(spec, RealGatedSpec):
        return RealGatedMixer(spec, hidden_size, layer)
    return SelfAttention(spec, hidden_size, layer)


def feed_forward(spec: FeedForwardSpec, hidden_size: int) -> nn.Module:
    """Make the feed-forward half of a layer."""
    return Moe(spec, hidden_size) if isinstance(spec, MoeSpec) else Mlp(spec, hidden_size)


class DecoderLayer(nn.Module):
    """Attention, then (or beside it) a feed-forward layer, each added to what came in."""

    def __init__(self, spec: LayerSpec, hidden_size: int, layer: int) -> None:
        """Hold both halves and their norms."""
        super().__init__()
        self.spec = spec
        self.attention_norm = Norm(spec.norm, hidden_size) if spec.has_pre_norms else nn.Identity()
        self.attention = attention_block(spec.attention, hidden_size, layer)
        self.mlp_norm = Norm(spec.norm, hidden_size) if spec.has_pre_norms else nn.Identity()
        assert spec.mlp is not None, "a layer without is a MixerLayer"
        self.mlp = feed_forward(spec.mlp, hidden_size)
        has_post = spec.has_post_norms
        self.attention_post_norm = Norm(spec.norm, hidden_size) if has_post else nn.Identity()
        self.mlp_post_norm = Norm(spec.norm, hidden_size) if has_post else nn.Identity()

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer."""
        attended = self._scaled(
            self.attention_post_norm(self.attention(self.attention_norm(x), forward_pass))
        )
        if self.spec.is_parallel:
            return x + attended + self._scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))
        x = x + attended
        return x + self._scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))

    def _scaled(self, given: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        factor = self.spec.residual_multiplier
        return given if factor == 1.0 else given * factor


def decoder_layer(spec: LayerSpec, hidden_size: int, layer: int) -> DecoderLayer | MixerLayer | AltUpLayer:
    """Make a layer, of two halves or of one, or of two among several vectors."""
    if spec.mlp is None:
        return MixerLayer(spec, attention_block(spec.attention, hidden_size, layer), hidden_size)
    if spec.altup is not None:
        attention = attention_block(spec.attention, hidden_size, layer)
        return AltUpLayer(spec, attention, feed_forward(spec.mlp, hidden_size), hidden_size, layer)
    return DecoderLayer(spec, hidden_size, layer)


class Decoder(nn.Module):
    """A causal language model; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: DecoderSpec) -> None:
        """Hold embeddings, layers and head; a tied head shares the embedding's parameter."""
        super().__init__()
        width = spec.hidden_size
        self.spec = spec
        self.embed = embedding(spec.vocab_size, width)
        self.positions = None if spec.num_positions is None else embedding(spec.num_positions, width)
        self.embed_norm = nn.Identity() if spec.embedding_norm is None else Norm(spec.embedding_norm, width)
        self.altup = None if spec.altup is None else AltUpEnds(spec.altup, width, len(spec.layers))
        layers = [decoder_layer(layer, width, index) for index, layer in enumerate(spec.layers)]
        blocks = [layer.attention for layer in layers]
        self.cache_shapes = tuple(block.cache_shape for block in blocks)
        #: What each layer remembers of a whole sequence; `None` where it attends.
        self.state_shapes = tuple(
            block.state_shape if isinstance(block, MixerBlock) else None for block in blocks
        )
        self.layers = nn.ModuleList(layers)
        self.norm = Norm(spec.final_norm, width)
        self.head = nn.Linear(width, spec.vocab_size, spec.has_head_bias)
        if spec.is_head_tied:
            self.head.weight = self.embed.weight

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return dtype_of(self.embed)

    def new_cache(self, num_seqs: int, max_len: int) -> ContiguousCache:
        """Return an empty cache for `num_seqs` sequences of at most `max_len` tokens."""
        return ContiguousCache(self.cache_shapes, num_seqs, max_len, self.dtype, self.state_shapes)

    def new_paged_cache(
        self, num_blocks: int, block_size: int = BLOCK_SIZE, dtype: str = "auto", num_states: int = 0
    ) -> PagedCache:
        """Return pages for any number of sequences, none of them filled; in int8 they hold codes.

        Where layers have a state, `num_states` slots for it are beside them.

        Raises:
            UnknownOption: no pages are kept in `dtype`.
        """
        states = StateStore(self.state_shapes, num_states, self.dtype) if any(self.state_shapes) else None
        kept_in = cache_dtype(dtype, self.dtype)
        return PagedCache(self.cache_shapes, num_blocks, kept_in, block_size, states=states)

    def forward(
        self,
        batch: Batch,
        cache: KeyValueCache | None = None,
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
        observer: Observer | None = None,
    ) -> Output:
        """Return the hidden states of the batch's tokens, which `cache` then holds.

        An `observer` watches beside the pass, in the rows that it names; `watch` watches all of them, in it.

        Raises:
            InputTooLong: the cache (a sequence's pages), or a table of learned positions, has no room.
        """
        forward_pass = ForwardPass(
            batch, cache, watch=watch, watched=watched_layers, backend=backend, observer=observer
        )
        return self.through(self.embedded(batch), forward_pass)

    def through(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Output:
        """Return the hidden states of what enters the first layer: of tokens, or of images among them."""
        if self.altup is not None:
            forward_pass.layer_inputs = self.altup.embedded(forward_pass.batch.token_ids, x)
            x = self.altup.enter(x)
        for layer in self.layers:
            x = layer(x, forward_pass)
        forward_pass.finish()
        x = x if self.altup is None else self.altup.leave(x)
        return Output(self.norm(x.to(self.dtype)), forward_pass.states)

    def embedded(self, batch: Batch) -> Float[Tensor, "n hidden"]:
        """Return the tokens, and what is inserted among them, as they enter the first layer."""
        x = self.vectors(batch.token_ids, batch.positions)
        if batch.inserted is None:
            return x
        return x.index_copy(0, batch.inserted.rows, batch.inserted.vectors.to(x.dtype))

    def vectors(
        self, token_ids: Int[Tensor, " n"], positions: Int[Tensor, "*axes n"]
    ) -> Float[Tensor, "n hidden"]:
        """Return the vectors of tokens that sit at `positions`."""
        x = self.embed(token_ids)
        if self.spec.embedding_multiplier != 1.0:
            # Rounded to the model's dtype first, as it was trained.
            x = x * torch.tensor(self.spec.embedding_multiplier, dtype=x.dtype, device=x.device)
        if self.positions is not None:
            last = int(positions.max())
            if last >= self.positions.num_embeddings:
                raise InputTooLong(
                    f"a token sits at position {last}; the model learned {self.positions.num_embeddings} "
                    "positions. Shorten the input."
                )
            x = x + self.positions(positions)
        x = self.embed_norm(x)
        return x.float() if self.spec.has_float32_sums else x

    def logits(self, hidden: Float[Tensor, "n hidden"]) -> Float[Tensor, "n vocab"]:
        """Return the score of every next token; pass only the rows that are needed."""
        return self.bounded(self.head(hidden))

    def bounded(self, logits: Float[Tensor, "n vocab"]) -> Float[Tensor, "n vocab"]:
        """Return what the head gave, scaled and capped as the spec asks."""
        if self.spec.logit_multiplier != 1.0:
            logits = logits * self.spec.logit_multiplier
        cap = self.spec.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)
