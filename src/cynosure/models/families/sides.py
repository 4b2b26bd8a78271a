"""Read the two sides of encoder-decoders of BART's line, and name their tensors. Knows no brand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Causal, Full
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, InputSpec, StackSpec
from cynosure.models.families.naming import module_and_leaf
from cynosure.models.mlp import ACTIVATIONS, MlpSpec

#: Of training, or repeated from other keys; the published graphs read none of them.
_UNREAD = (
    "activation_dropout",
    "classif_dropout",
    "decoder_layerdrop",
    "encoder_layerdrop",
    "extra_pos_embeddings",
    "init_std",
    "_num_labels",
    "save_step",
)
#: Other names of activations.
_ALIASES = {"swish": "silu"}

_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)")
_PARTS = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.o",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.q_proj": "cross.q",
    "encoder_attn.k_proj": "cross.k",
    "encoder_attn.v_proj": "cross.v",
    "encoder_attn.out_proj": "cross.o",
    "encoder_attn_layer_norm": "cross_norm",
    "fc1": "mlp.up",
    "fc2": "mlp.down",
    "final_layer_norm": "mlp_norm",
}
_WHOLE = {
    "shared": "embed",
    "lm_head": "head",
    "proj_out": "head",
    "encoder.embed_tokens": "encoder.input.embed",
    "decoder.embed_tokens": "decoder.input.embed",
    "encoder.embed_positions": "encoder.input.positions",
    "decoder.embed_positions": "decoder.input.positions",
    "encoder.layernorm_embedding": "encoder.input.norm",
    "decoder.layernorm_embedding": "decoder.input.norm",
    "encoder.layer_norm": "encoder.norm",
    "decoder.layer_norm": "decoder.norm",
    "encoder.conv1": "encoder.input.first",
    "encoder.conv2": "encoder.input.second",
}
#: The embedding is stored under one to three names, and is the projection's too unless that is stored.
_EMBEDDINGS = ("embed.weight", "decoder.input.embed.weight", "encoder.input.embed.weight")


def read_side(reader: ConfigReader, side: str, inputs: InputSpec, *, has_final_norm: bool) -> StackSpec:
    """Return the spec of the `encoder` or of the `decoder`.

    Raises:
        UnsupportedConfig: the heads do not divide the width, or an activation that we do not know.
    """
    reader.ignore(*_UNREAD)
    width = reader.take("d_model", int, positive=True)
    num_heads = reader.take(f"{side}_attention_heads", int, positive=True)
    if width % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has d_model = {width} and {side}_attention_heads = {num_heads}, which does not "
            "divide it. Correct the file."
        )
    heads = Heads.of(num_heads, width // num_heads)
    activation = reader.expect("activation_function", [*ACTIVATIONS, *_ALIASES], "gelu")
    mlp = MlpSpec(
        reader.take(f"{side}_ffn_dim", int, positive=True),
        _ALIASES.get(activation, activation),
        is_gated=False,
        has_bias=True,
    )
    num_layers = reader.take(f"{side}_layers", int, positive=True)
    is_decoder = side == "decoder"
    return StackSpec(
        layers=(AttentionSpec(heads, Causal() if is_decoder else Full()),) * num_layers,
        mlp=mlp,
        inputs=inputs,
        cross_attention=AttentionSpec(heads, Full()) if is_decoder else None,
        has_final_norm=has_final_norm,
    )


def rename_sides(
    weights: Weights,
    *,
    prefix: str = "model.",
    parts: Mapping[str, str] | None = None,
    whole: Mapping[str, str] | None = None,
) -> dict[str, TensorSource]:
    """Give the graph's parameters their tensors; what is unknown keeps its name, so that it is noticed.

    Args:
        weights: the checkpoint.
        prefix: what every name but the head's may begin with.
        parts: modules of a layer beside the usual ones, theirs to ours.
        whole: the same outside of layers.
    """
    inner, outer = {**_PARTS, **(parts or {})}, {**_WHOLE, **(whole or {})}
    tensors = {
        _canonical(name, name.removeprefix(prefix), inner, outer): weights.later(name)
        for name in weights.names()
    }
    if "head.weight" not in tensors:
        embedding = next((tensors[name] for name in _EMBEDDINGS if name in tensors), None)
        if embedding is not None:
            tensors["head.weight"] = embedding
    return tensors


def logit_bias(spec: EncoderDecoderSpec, tensors: Mapping[str, TensorSource]) -> dict[str, TensorSource]:
    """Return `tensors` with the bias of the projection under its name; one that was left out is zero."""
    found = dict(tensors)
    bias = found.pop("final_logits_bias", None)
    found["head.bias"] = partial(torch.zeros, spec.vocab_size) if bias is None else _row_of(bias)
    return found


def _row_of(source: TensorSource) -> TensorSource:
    return lambda: source().flatten()


def _canonical(name: str, short: str, inner: Mapping[str, str], outer: Mapping[str, str]) -> str:
    owner, leaf = module_and_leaf(short)
    match = _LAYER.fullmatch(owner)
    if match is None:
        return f"{outer[owner]}{leaf}" if owner in outer else name
    side, index, part = match.groups()
    return f"{side}.layers.{index}.{inner[part]}{leaf}" if part in inner else name
