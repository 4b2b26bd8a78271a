"""Read T5 checkpoints: v1 (relu, tied), v1.1 and Flan (gated gelu, untied), UMT5, LongT5. Runs nothing.

T5, arXiv 1910.10683. Scores are not divided by `sqrt(head_dim)`; positions are one table of biases for each
stack, stored with its first layer, or one for each layer (UMT5, 2304.09151); norms scale without centring.
LongT5's encoder (2112.07916) attends to a neighbourhood, and, where "transient-global", to sums of blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from cynosure.attention import AttentionSpec, Heads, Score
from cynosure.attention.masks import Causal, Full, Window
from cynosure.attention.positions import T5Bias
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder, StackedEncoder
from cynosure.models.encoder_decoder_spec import BlockSums, EncoderDecoderSpec, StackSpec
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length

_LAYER = re.compile(r"(encoder|decoder)\.block\.(\d+)\.layer\.([012])\.(.+)\.weight")

#: Tensors outside of the layers; the embedding, one for both sides, is stored under one to three names.
_WHOLE = {
    "shared.weight": "embed.weight",
    "encoder.embed_tokens.weight": "encoder.input.embed.weight",
    "decoder.embed_tokens.weight": "decoder.input.embed.weight",
    "encoder.final_layer_norm.weight": "encoder.norm.weight",
    "decoder.final_layer_norm.weight": "decoder.norm.weight",
    "lm_head.weight": "head.weight",
}
_EMBEDDINGS = ("embed.weight", "encoder.input.embed.weight", "decoder.input.embed.weight")
_PARTS = {
    **{f"SelfAttention.{part}": f"attention.{part}" for part in "qkvo"},
    **{f"EncDecAttention.{part}": f"cross.{part}" for part in "qkvo"},
    "SelfAttention.global_input_layer_norm": "far.norm",
    "DenseReluDense.wi": "mlp.up",
    "DenseReluDense.wi_0": "mlp.gate",
    "DenseReluDense.wi_1": "mlp.up",
    "DenseReluDense.wo": "mlp.down",
}
#: LongT5's words for an encoder's self-attention.
_KINDS = re.compile(r"^(?:Local|TransientGlobal)SelfAttention")
#: The norm before each sublayer, by its place.
_NORMS = {"encoder": ("attention_norm", "mlp_norm"), "decoder": ("attention_norm", "cross_norm", "mlp_norm")}


@dataclass(frozen=True)
class _Style:
    """Where T5, UMT5 and LongT5 differ."""

    feed_forward: str
    has_bias_in_each: bool = False
    is_long: bool = False


_T5 = _Style("relu")
_UMT5 = _Style("gated-gelu", has_bias_in_each=True)
_LONG = _Style("relu", is_long=True)


def parse(style: _Style, reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of a model that generates."""
    reader.expect("is_encoder_decoder", [True])
    spec = _parse(style, reader, has_decoder=True)
    reader.finish()
    return spec


def parse_encoder(style: _Style, reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of an encoder alone; what its config says of a decoder is read and left."""
    reader.take("is_encoder_decoder", bool, None)
    spec = _parse(style, reader, has_decoder=False)
    reader.finish()
    return spec


def rename(spec: EncoderDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; what is unknown keeps its name, so that it is noticed.

    A checkpoint that has `lm_head.weight` uses it, whatever its config says of tying: transformers writes
    `tie_word_embeddings: true` for every T5, also where the two were trained apart.
    """
    tensors = {_canonical(spec, name): weights.later(name) for name in weights.names()}
    if spec.decoder is not None and "head.weight" not in tensors:
        embedding = next((tensors[name] for name in _EMBEDDINGS if name in tensors), None)
        if embedding is not None:
            tensors["head.weight"] = embedding
    return tensors


def _parse(style: _Style, reader: ConfigReader, *, has_decoder: bool) -> EncoderDecoderSpec:
    # The length that the model was trained at, in old configs; a bias by distance has no such limit.
    # And a switch of UMT5's authors that the published graph does not have.
    reader.ignore("n_positions", *(["scalable_attention"] if style.has_bias_in_each else []))
    hidden_size = reader.take("d_model", int, positive=True)
    heads = Heads.of(reader.take("num_heads", int, positive=True), reader.take("d_kv", int, positive=True))
    num_layers = reader.take("num_layers", int, positive=True)
    num_decoder_layers = reader.take("num_decoder_layers", int, num_layers, positive=True)
    num_buckets = reader.take("relative_attention_num_buckets", int, 32, positive=True)
    max_distance = reader.take("relative_attention_max_distance", int, 128, positive=True)
    is_tied = reader.take("tie_word_embeddings", bool, True)
    has_scaled_logits = reader.take("scale_decoder_outputs", bool, is_tied)

    def self_attention(is_decoder: bool) -> AttentionSpec:
        position = T5Bias(num_buckets, max_distance, is_bidirectional=not is_decoder)
        return AttentionSpec(heads, Causal() if is_decoder else Full(), position, Score(scale=1.0))

    near, far = self_attention(False), None
    if style.is_long:
        near, far = _long(reader, near)
    cross = AttentionSpec(heads, Full(), score=Score(scale=1.0))
    mlp = _mlp(reader, style.feed_forward)
    has_each = style.has_bias_in_each
    length = declared_length(reader, None)
    decoder = StackSpec(
        (self_attention(True),) * num_decoder_layers, mlp, cross_attention=cross, has_bias_in_each=has_each
    )
    return EncoderDecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        norm=NormSpec(NormKind.RMS, reader.take("layer_norm_epsilon", float, 1e-6)),
        encoder=StackSpec((near,) * num_layers, mlp, has_bias_in_each=has_each, far=far),
        decoder=decoder if has_decoder else None,
        logit_scale=hidden_size**-0.5 if has_scaled_logits else 1.0,
        max_model_len=length,
        max_input_len=length,
    )


def _long(reader: ConfigReader, full: AttentionSpec) -> tuple[AttentionSpec, BlockSums | None]:
    """Read the encoder's attention: to `local_radius` tokens on either side, and to sums of blocks."""
    near = replace(full, mask=Window(reader.take("local_radius", int, positive=True) + 1))
    size = reader.take("global_block_size", int, positive=True)
    kind = reader.expect("encoder_attention_type", ["local", "transient-global"], "local")
    return near, BlockSums(size, full) if kind == "transient-global" else None


def _mlp(reader: ConfigReader, default: str) -> MlpSpec:
    """Read the feed-forward layer: `relu`, or `gated-gelu`, whose gelu is the tanh approximation."""
    kinds = [f"{gating}{name}" for gating in ("", "gated-") for name in ACTIVATIONS]
    gating, _, activation = reader.expect("feed_forward_proj", kinds, default).rpartition("-")
    if (gating, activation) == ("gated", "gelu"):
        activation = "gelu_new"
    # transformers writes what it derived beside what it was derived from.
    reader.expect("dense_act_fn", [activation])
    reader.expect("is_gated_act", [gating == "gated"])
    return MlpSpec(reader.take("d_ff", int, positive=True), activation, is_gated=gating == "gated")


def _canonical(spec: EncoderDecoderSpec, name: str) -> str:
    """Return the graph's name of a tensor."""
    if name in _WHOLE:
        return _WHOLE[name]
    match = _LAYER.fullmatch(name)
    if match is None:
        return name
    side, block, place, part = match.groups()
    part = _KINDS.sub("SelfAttention", part)
    if part == "SelfAttention.global_relative_attention_bias" and block == "0":
        return f"{side}.far_table"
    if part == "SelfAttention.relative_attention_bias" and spec.encoder.has_bias_in_each:
        return f"{side}.layers.{block}.position_table"
    if part == "SelfAttention.relative_attention_bias" and block == "0":
        return f"{side}.position_table"
    if part == "layer_norm":
        ours = _NORMS[side][int(place)]
    elif part in _PARTS:
        ours = _PARTS[part]
    else:
        return name
    return f"{side}.layers.{block}.{ours}.weight"


# Old checkpoints hold a table for cross-attention that was never read.
_UNREAD = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
_NOT_ENCODER = ("decoder.*", "head.*")


def _brands(name: str, style: _Style) -> tuple[Brand, ...]:
    whole, alone = partial(parse, style), partial(parse_encoder, style)
    kind = ModelKind.ENCODER_DECODER
    return (
        Brand(f"{name}ForConditionalGeneration", kind, whole, EncoderDecoder, rename, _UNREAD),
        Brand(f"{name}EncoderModel", ModelKind.ENCODER, alone, StackedEncoder, rename, _NOT_ENCODER),
    )


BRANDS: tuple[Brand, ...] = (*_brands("T5", _T5), *_brands("UMT5", _UMT5), *_brands("LongT5", _LONG))
