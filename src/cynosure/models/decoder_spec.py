"""Describe a decoder as a value, layer by layer. Knows nothing of tensors or of any checkpoint's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cynosure.attention.masks import Causal, Mask
from cynosure.models.altup import AltUpSpec
from cynosure.models.differential_attention import DifferentialSpec
from cynosure.models.gated_delta import GatedDeltaSpec
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import MoeSpec
from cynosure.models.norm import NormSpec
from cynosure.models.real_gated import RealGatedSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttentionSpec
from cynosure.models.state_space import StateSpaceSpec

MixerBlockSpec: TypeAlias = StateSpaceSpec | GatedDeltaSpec | RealGatedSpec
OwnKeysSpec: TypeAlias = SelfAttentionSpec | DifferentialSpec | MlaSpec
AttentionBlockSpec: TypeAlias = OwnKeysSpec | SharedAttentionSpec | MixerBlockSpec
FeedForwardSpec: TypeAlias = MlpSpec | MoeSpec


@dataclass(frozen=True)
class LayerSpec:
    """One layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`.

    A mixer of constant state may stand where attention does; `mlp` of `None` leaves the second half out
    (Mamba-2).

    - `has_post_norms`: what a half gives is normalised (again) before it is added (Gemma 2).
    - `has_pre_norms`: without, a half reads its input as it is (OLMo 2).
    - `is_parallel`: both halves read what came into the layer, and are added together (GPT-NeoX).
    - `residual_multiplier`: scales what each half gives before it is added (Granite).
    - `altup`: what is around the halves where a token is several vectors (Gemma 3n).
    """

    attention: AttentionBlockSpec
    mlp: FeedForwardSpec | None
    norm: NormSpec
    has_post_norms: bool = False
    has_pre_norms: bool = True
    is_parallel: bool = False
    residual_multiplier: float = 1.0
    altup: AltUpSpec | None = None


@dataclass(frozen=True)
class DecoderSpec:
    """A causal language model.

    - `max_model_len`: tokens that a sequence may have; `None` where nothing in the model bounds it.
    - `num_positions`: rows of a learned table of positions, which is added to the embeddings (GPT-2).
    - `embedding_norm`: normalises the embeddings (Bloom); `embedding_multiplier` scales them (Gemma).
    - `has_float32_sums`: layers add up in float32 whatever the dtype of the weights (Mamba-2).
    - `altup`: a token is several vectors between the first layer and the last (Gemma 3n).
    - `logit_multiplier` scales the logits (Cohere); `logit_softcap` bounds them smoothly to `(-cap, cap)`
      (Gemma 2).
    """

    vocab_size: int
    hidden_size: int
    layers: tuple[LayerSpec, ...]
    final_norm: NormSpec
    max_model_len: int | None
    is_head_tied: bool = False
    has_head_bias: bool = False
    num_positions: int | None = None
    embedding_norm: NormSpec | None = None
    embedding_multiplier: float = 1.0
    logit_multiplier: float = 1.0
    logit_softcap: float | None = None
    has_float32_sums: bool = False
    altup: AltUpSpec | None = None

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Query heads of each layer; 0 where it does not attend."""
        return tuple(_num_heads(layer.attention) for layer in self.layers)

    @property
    def full_layers(self) -> tuple[int, ...]:
        """Layers that see all that came before, and no window of it alone."""
        masks = (_mask_of(layer.attention) for layer in self.layers)
        return tuple(index for index, mask in enumerate(masks) if mask == Causal())


def _mask_of(block: AttentionBlockSpec) -> Mask | None:
    if isinstance(block, MixerBlockSpec):
        return None
    return block.mask if isinstance(block, MlaSpec) else block.attention.mask


def _num_heads(block: AttentionBlockSpec) -> int:
    if isinstance(block, MixerBlockSpec):
        return 0
    return block.widths.num_heads if isinstance(block, MlaSpec) else block.attention.heads.num_heads
