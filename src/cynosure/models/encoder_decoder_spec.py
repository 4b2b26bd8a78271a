"""Describe an encoder, and a decoder that attends to it, as values. Knows nothing of weights or tensors."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.attention import AttentionSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec


@dataclass(frozen=True)
class StackSpec:
    """Equal layers, one after the other.

    `cross_attention` is what a decoder's layers attend to the encoder's output with. Where the position of
    `attention` reads a learned table, the stack holds one for all its layers.
    """

    num_layers: int
    attention: AttentionSpec
    cross_attention: AttentionSpec | None = None


@dataclass(frozen=True)
class EncoderDecoderSpec:
    """A sequence-to-sequence model with pre-normalised layers and no absolute positions.

    `decoder` is `None` for an encoder alone. `logit_scale` multiplies the decoder's output before the
    vocabulary's projection (T5 with tied embeddings: `hidden_size ** -0.5`). Nothing in the
    maths bounds a length; `max_model_len` is what the caller declared.
    """

    vocab_size: int
    hidden_size: int
    mlp: MlpSpec
    norm: NormSpec
    encoder: StackSpec
    decoder: StackSpec | None = None
    logit_scale: float = 1.0
    max_model_len: int | None = None
