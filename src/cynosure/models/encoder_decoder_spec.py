"""Describe an encoder, and a decoder that attends to it, as values. Knows nothing of weights or tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from cynosure.attention import AttentionSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec


@dataclass(frozen=True)
class TokenInputSpec:
    """How tokens enter a stack: `norm(scale * embedding + position row)`, each part where there is one.

    Position i reads row `i + position_offset` (BART keeps its first two rows for padding); `num_positions`
    counts the positions that can be read.
    """

    scale: float = 1.0
    num_positions: int | None = None
    position_offset: int = 0
    norm: NormSpec | None = None


@dataclass(frozen=True)
class FeatureInputSpec:
    """How frames of numbers enter an encoder: two convolutions, the second with stride 2, and position rows.

    An input has exactly `num_frames` frames of `num_bins` numbers (Whisper, arXiv 2212.04356, section 2.2).
    """

    num_bins: int
    num_positions: int

    @property
    def num_frames(self) -> int:
        """Frames of one input: two a position."""
        return 2 * self.num_positions


@dataclass(frozen=True)
class BlockSums:
    """Every token also attends to a sum of each block of `block_size` tokens (LongT5, arXiv 2112.07916).

    Tokens behind the last whole block count to it. `attention` is what sums are attended to with: positions
    are those of blocks, and a learned table is one for all layers.
    """

    block_size: int
    attention: AttentionSpec


@dataclass(frozen=True)
class GlobalTokens:
    """Tokens also attend to `num_tokens` learned ones, which attend to all (Pegasus-X, arXiv 2208.04347).

    In every second layer the positions of tokens are shifted by `shift`, so that blocks lie staggered.
    """

    num_tokens: int
    shift: int


@dataclass(frozen=True)
class GlobalFirst:
    """The first token attends to all, by projections of its own, and all to it (LED, arXiv 2004.05150)."""


FarSpec: TypeAlias = BlockSums | GlobalTokens | GlobalFirst
InputSpec: TypeAlias = TokenInputSpec | FeatureInputSpec


@dataclass(frozen=True)
class StackSpec:
    """Layers, one after the other, that differ in their self-attention at most.

    - `layers`: self-attention of each. Where its position reads a learned table, the stack holds one for all
      layers, or each layer its own where `has_bias_in_each` (UMT5).
    - `cross_attention`: what a decoder's layers attend to the encoder's output with.
    - `has_final_norm`: the last layer's output is normalised.
    - `far`: what an encoder's tokens attend to beyond their neighbourhood, which the masks of `layers` say.
    """

    layers: tuple[AttentionSpec, ...]
    mlp: MlpSpec
    inputs: InputSpec = field(default_factory=TokenInputSpec)
    cross_attention: AttentionSpec | None = None
    has_final_norm: bool = True
    has_bias_in_each: bool = False
    far: FarSpec | None = None


@dataclass(frozen=True)
class EncoderDecoderSpec:
    """A sequence-to-sequence model.

    - `decoder`: `None` for an encoder alone.
    - `is_pre_norm`: a part of a layer computes `x + f(norm(x))`; else `norm(x + f(x))` (BART).
    - `has_attention_bias`: projections of attention have biases; those of keys where `has_key_bias` too.
    - `logit_scale`: multiplies the decoder's output before the vocabulary's projection (T5 with tied
      embeddings: `hidden_size ** -0.5`); `has_logit_bias`: the projection has a bias.
    - `max_model_len`: positions of an answer; `max_input_len`: tokens of an input. `None` where neither the
      maths nor the caller bounds them.
    """

    vocab_size: int
    hidden_size: int
    norm: NormSpec
    encoder: StackSpec
    decoder: StackSpec | None = None
    is_pre_norm: bool = True
    has_attention_bias: bool = False
    has_key_bias: bool = False
    logit_scale: float = 1.0
    has_logit_bias: bool = False
    max_model_len: int | None = None
    max_input_len: int | None = None

    @property
    def features(self) -> FeatureInputSpec | None:
        """What an encoder reads instead of tokens; `None` where it reads tokens."""
        inputs = self.encoder.inputs
        return inputs if isinstance(inputs, FeatureInputSpec) else None
