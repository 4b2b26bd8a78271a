"""Read LED checkpoints: BART with an encoder of sliding windows. Runs nothing.

LED, arXiv 2004.05150, section 7. Callers of the published graph say which tokens attend to all; its authors
advise the first, and here it is the first, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cynosure.attention.masks import Global, Window
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, GlobalFirst, StackSpec, TokenInputSpec
from cynosure.models.families.sides import logit_bias, read_side, rename_sides
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import DECLARED_LENGTH

_NORM = NormSpec(NormKind.LAYER, 1e-5, has_bias=True)
_SELF = "self_attn.longformer_self_attn"
_PARTS = {
    f"{_SELF}.query": "attention.q",
    f"{_SELF}.key": "attention.k",
    f"{_SELF}.value": "attention.v",
    "self_attn.output": "attention.o",
    f"{_SELF}.query_global": "far.own.q",
    f"{_SELF}.key_global": "far.own.k",
    f"{_SELF}.value_global": "far.own.v",
}


def parse(reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of an `LEDForConditionalGeneration`."""
    reader.expect("is_encoder_decoder", [True])
    reader.expect("tie_word_embeddings", [True])
    reader.ignore("num_hidden_layers", "attention_mode", "max_position_embeddings")
    num_inputs = reader.take("max_encoder_position_embeddings", int, positive=True)
    num_answers = reader.take("max_decoder_position_embeddings", int, positive=True)
    encoder = read_side(reader, "encoder", _inputs(num_inputs), has_final_norm=False)
    declared = reader.take(DECLARED_LENGTH, int, max(num_inputs, num_answers), positive=True)
    if declared > max(num_inputs, num_answers):
        raise UnsupportedConfig(
            f"{DECLARED_LENGTH} is {declared}; the checkpoint reaches {max(num_inputs, num_answers)} "
            "positions. Declare fewer."
        )
    spec = EncoderDecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=reader.take("d_model", int, positive=True),
        norm=_NORM,
        encoder=replace(encoder, layers=_windows(reader, encoder), far=GlobalFirst()),
        decoder=read_side(reader, "decoder", _inputs(num_answers), has_final_norm=False),
        is_pre_norm=False,
        has_attention_bias=True,
        has_key_bias=True,
        has_logit_bias=True,
        max_model_len=min(declared, num_answers),
        max_input_len=min(declared, num_inputs),
    )
    reader.finish()
    return spec


def _inputs(num_positions: int) -> TokenInputSpec:
    return TokenInputSpec(num_positions=num_positions, norm=_NORM)


def _windows(reader: ConfigReader, encoder: StackSpec) -> tuple:
    """Return the layers' attention: half a window on either side, and the first token."""
    num_layers = len(encoder.layers)
    if reader.holds("attention_window", int):
        sizes = (reader.take("attention_window", int, positive=True),) * num_layers
    else:
        sizes = reader.take_list("attention_window", int) or (512,) * num_layers
    if len(sizes) != num_layers or any(size < 2 or size % 2 for size in sizes):
        raise UnsupportedConfig(
            f"{reader.where} has attention_window = {list(sizes)}; one even number for each of "
            f"{num_layers} layers is needed. Correct the file."
        )
    pairs = zip(encoder.layers, sizes, strict=True)
    return tuple(replace(layer, mask=Window(size // 2 + 1) | Global(1)) for layer, size in pairs)


def rename(spec: EncoderDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; a bias of logits that is all zero may have been left out."""
    return logit_bias(spec, rename_sides(weights, prefix="led.", parts=_PARTS))


BRANDS: tuple[Brand, ...] = (
    Brand("LEDForConditionalGeneration", ModelKind.ENCODER_DECODER, parse, EncoderDecoder, rename),
)
