"""Read Pegasus-X checkpoints: Pegasus with an encoder of blocks and learned global tokens. Runs nothing.

Pegasus-X, arXiv 2208.04347. Attention has no biases; positions are sines that are computed, not stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.masks import Chunk
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, GlobalTokens, TokenInputSpec
from cynosure.models.families.sides import read_side, rename_sides
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length


def parse(reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of a `PegasusXForConditionalGeneration`."""
    reader.expect("is_encoder_decoder", [True])
    reader.expect("tie_word_embeddings", [True])
    for key, value in (("normalize_before", True), ("add_final_layer_norm", True)):
        reader.expect(key, [value])
    for key in ("normalize_embedding", "add_bias_logits"):
        reader.expect(key, [False])
    reader.expect("static_position_embeddings", [True])
    reader.ignore("num_hidden_layers", "force_bos_token_to_be_generated")
    width = reader.take("d_model", int, positive=True)
    num_positions = reader.take("max_position_embeddings", int, positive=True)
    inputs = TokenInputSpec(
        scale=math.sqrt(width) if reader.take("scale_embedding", bool, True) else 1.0,
        num_positions=num_positions,
    )
    size = reader.take("block_size", int, positive=True)
    is_staggered = reader.take("stagger_local_blocks", bool, True)
    if is_staggered and size % 2:
        raise UnsupportedConfig(
            f"{reader.where} has block_size = {size} with stagger_local_blocks; an even one is needed. "
            "Correct the file."
        )
    tokens = GlobalTokens(reader.take("num_global_tokens", int, positive=True), size // 2 * is_staggered)
    encoder = read_side(reader, "encoder", inputs, has_final_norm=True)
    layers = tuple(replace(layer, mask=Chunk(size)) for layer in encoder.layers)
    length = declared_length(reader, num_positions)
    spec = EncoderDecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=width,
        norm=NormSpec(NormKind.LAYER, 1e-5, has_bias=True),
        encoder=replace(encoder, layers=layers, far=tokens),
        decoder=read_side(reader, "decoder", inputs, has_final_norm=True),
        max_model_len=length,
        max_input_len=length,
    )
    reader.finish()
    return spec


def rename(spec: EncoderDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors, and add the sines."""
    tensors = rename_sides(
        weights,
        parts={"global_self_attn_layer_norm": "far.norm"},
        whole={"encoder.embed_global": "encoder.globals"},
    )
    assert isinstance(spec.encoder.inputs, TokenInputSpec)
    sines = partial(_sines, spec.encoder.inputs.num_positions or 0, spec.hidden_size)
    for side in ("encoder", "decoder"):
        tensors[f"{side}.input.positions.weight"] = sines
    return tensors


def _sines(num_rows: int, width: int) -> Float[Tensor, "rows width"]:
    """Return sines, then cosines, whose frequencies reach the last exactly; in float32, as published."""
    num_each = width // 2
    rates = torch.exp(torch.arange(num_each).float() * -(math.log(10_000.0) / (num_each - 1)))
    angles = torch.arange(num_rows)[:, None] * rates
    rest = torch.zeros(num_rows, width - 2 * num_each)
    return torch.cat([angles.sin(), angles.cos(), rest], dim=1)


BRANDS: tuple[Brand, ...] = (
    Brand("PegasusXForConditionalGeneration", ModelKind.ENCODER_DECODER, parse, EncoderDecoder, rename),
)
