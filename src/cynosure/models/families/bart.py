"""Read BART, mBART, Marian and Pegasus checkpoints. Runs nothing.

BART (arXiv 1910.13461), mBART (2001.08210), Marian (1804.00344) and Pegasus (1912.08777) differ in where they
normalise, and in whether positions are learned or sines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_input import sinusoids
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, TokenInputSpec
from cynosure.models.families.sides import logit_bias, read_side, rename_sides
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length

_NORM = NormSpec(NormKind.LAYER, 1e-5, has_bias=True)


@dataclass(frozen=True)
class _Style:
    """Where the brands differ; `has_sines` in the place of learned positions."""

    is_pre_norm: bool
    has_embedding_norm: bool
    has_sines: bool


_BART = _Style(is_pre_norm=False, has_embedding_norm=True, has_sines=False)
_MBART = _Style(is_pre_norm=True, has_embedding_norm=True, has_sines=False)
_MARIAN = _Style(is_pre_norm=False, has_embedding_norm=False, has_sines=True)
_PEGASUS = _Style(is_pre_norm=True, has_embedding_norm=False, has_sines=True)


def parse(style: _Style, reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of a checkpoint; what old configs repeat of a brand's style must be the brand's."""
    reader.expect("is_encoder_decoder", [True])
    reader.expect("tie_word_embeddings", [True])
    reader.expect("share_encoder_decoder_embeddings", [True])
    reader.expect("normalize_before", [style.is_pre_norm])
    reader.expect("add_final_layer_norm", [style.is_pre_norm])
    reader.expect("normalize_embedding", [style.has_embedding_norm])
    reader.expect("static_position_embeddings", [style.has_sines])
    reader.expect("add_bias_logits", [False])
    # Asked of `generate`, under its old name; and a count that repeats that of the encoder's layers.
    reader.ignore("force_bos_token_to_be_generated", "num_hidden_layers")
    width = reader.take("d_model", int, positive=True)
    vocab_size = reader.take("vocab_size", int, positive=True)
    reader.expect("decoder_vocab_size", [vocab_size])
    num_positions = reader.take("max_position_embeddings", int, positive=True)
    inputs = TokenInputSpec(
        scale=math.sqrt(width) if reader.take("scale_embedding", bool, False) else 1.0,
        num_positions=num_positions,
        position_offset=0 if style.has_sines else 2,
        norm=_NORM if style.has_embedding_norm else None,
    )
    length = declared_length(reader, num_positions)
    spec = EncoderDecoderSpec(
        vocab_size=vocab_size,
        hidden_size=width,
        norm=_NORM,
        encoder=read_side(reader, "encoder", inputs, has_final_norm=style.is_pre_norm),
        decoder=read_side(reader, "decoder", inputs, has_final_norm=style.is_pre_norm),
        is_pre_norm=style.is_pre_norm,
        has_attention_bias=True,
        has_key_bias=True,
        has_logit_bias=True,
        max_model_len=length,
        max_input_len=length,
    )
    reader.finish()
    return spec


def rename(style: _Style, spec: EncoderDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; sines, and a bias of logits that is all zero, may have been left out."""
    tensors = logit_bias(spec, rename_sides(weights))
    if style.has_sines:
        for stack, side in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
            assert stack is not None
            assert isinstance(stack.inputs, TokenInputSpec)
            sines = partial(sinusoids, stack.inputs.num_positions or 0, spec.hidden_size)
            tensors.setdefault(f"{side}.input.positions.weight", sines)
    return tensors


def _brand(architecture: str, style: _Style) -> Brand:
    kind = ModelKind.ENCODER_DECODER
    return Brand(architecture, kind, partial(parse, style), EncoderDecoder, partial(rename, style), _UNREAD)


# What fairseq wrote beside the weights.
_UNREAD = ("model.encoder.version", "model.decoder.version")

BRANDS: tuple[Brand, ...] = (
    _brand("BartForConditionalGeneration", _BART),
    _brand("MBartForConditionalGeneration", _MBART),
    _brand("MarianMTModel", _MARIAN),
    _brand("PegasusForConditionalGeneration", _PEGASUS),
)
