"""Read Gemma 3n checkpoints for texts (model card, Google 2025). Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TypeVar

from cynosure.attention import AttentionSpec, Score
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.altup import AltUpSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.gemma import NORMS, two_ropes
from cynosure.models.families.llama import (
    ATTENTION,
    MLP,
    OUTER,
    Windows,
    mask_of,
    read_heads,
    windows_by_type,
)
from cynosure.models.families.naming import Target, rename
from cynosure.models.families.text_half import texts_alone
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttentionSpec

T = TypeVar("T", int, float)

_OUTER: Mapping[str, Target] = {
    **OUTER,
    "embed_tokens_per_layer": "altup.embed",
    "per_layer_model_projection": "altup.project",
    "per_layer_projection_norm": "altup.norm",
}
_LAYER: Mapping[str, Target] = {
    **ATTENTION,
    **MLP,
    **NORMS,
    "altup.correct_output_scale": "altup.scale",
    "altup.correction_coefs": "altup.correction",
    "altup.prediction_coefs": "altup.prediction",
    "altup.modality_router": "altup.router",
    "altup.router_norm": "altup.router_norm",
    "laurel.linear_left": "laurel.left",
    "laurel.linear_right": "laurel.right",
    "laurel.post_laurel_norm": "laurel.norm",
    "per_layer_input_gate": "altup.gate",
    "per_layer_projection": "altup.out",
    "post_per_layer_input_norm": "altup.out_norm",
}
_OF_IMAGES_AND_SOUNDS = (
    *("vision_config", "audio_config", "vision_soft_tokens_per_image", "audio_soft_tokens_per_image"),
    *(f"{part}_token_id" for part in ("boi", "eoi", "image", "boa", "eoa", "audio")),
)
_KEPT = re.compile(r"layers\.(\d+)\.attention\.(?:k|v|k_norm|v_norm)\..+")


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Gemma3nForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    # Said of scores, which the published graph takes as they are.
    reader.ignore("query_pre_attn_scalar", "attn_logit_softcapping")
    windows = _windows(reader, num_layers)
    heads = read_heads(reader, hidden_size)
    wide, local = two_ropes(reader, heads.head_dim)
    attentions = tuple(
        AttentionSpec(heads, mask_of(window), wide if window is None else local, Score(scale=1.0))
        for window in windows
    )
    blocks = _blocks(reader, attentions, norm)
    activation = reader.expect("hidden_activation", ACTIVATIONS.keys(), "gelu_pytorch_tanh")
    altup = _altup(reader, activation, norm)
    halves = _halves(reader, activation, num_layers)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(
            LayerSpec(block, half, norm, has_post_norms=True, altup=altup)
            for block, half in zip(blocks, halves, strict=True)
        ),
        final_norm=norm,
        max_model_len=wide.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        embedding_multiplier=hidden_size**0.5,
        logit_softcap=reader.take("final_logit_softcapping", float, 30.0, positive=True),
        altup=altup,
    )
    reader.finish()
    return spec


def _windows(reader: ConfigReader, num_layers: int) -> Windows:
    window = reader.take("sliding_window", int, 512, positive=True)
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(None if (layer + 1) % 5 == 0 else window for layer in range(num_layers))


def _blocks(
    reader: ConfigReader, attentions: tuple[AttentionSpec, ...], norm: NormSpec
) -> tuple[SelfAttentionSpec | SharedAttentionSpec, ...]:
    """Return the layers' attention; the last ones read what the last of their kind before them keeps."""
    has_bias = reader.take("attention_bias", bool, False)
    num_shared = reader.take("num_kv_shared_layers", int, 15)
    num_own = len(attentions) - num_shared
    own, shared = attentions[:num_own], attentions[num_own:]
    if num_shared < 0 or not set(shared) <= set(own):
        raise UnsupportedConfig(
            f"{reader.where} has num_kv_shared_layers = {num_shared} of {len(attentions)} layers; each kind "
            "of layer needs one before them that keeps keys and values. Correct the file."
        )
    sources = [num_own - 1 - own[::-1].index(attention) for attention in shared]
    bare = NormSpec(norm.kind, norm.eps, has_weight=False)
    keeping = (
        SelfAttentionSpec(attention, has_bias, has_bias, norm, v_norm=bare, is_read_again=layer in sources)
        for layer, attention in enumerate(own)
    )
    reading = (
        SharedAttentionSpec(attention, source, has_bias, norm)
        for attention, source in zip(shared, sources, strict=True)
    )
    return (*keeping, *reading)


def _altup(reader: ConfigReader, activation: str, norm: NormSpec) -> AltUpSpec:
    # Of training alone.
    reader.ignore("altup_coef_clip", "altup_lr_multiplier")
    num_streams = reader.take("altup_num_inputs", int, 4, positive=True)
    active = reader.take("altup_active_idx", int, 0)
    if not 0 <= active < num_streams:
        raise UnsupportedConfig(
            f"{reader.where} has altup_active_idx = {active} of {num_streams} vectors. Correct the file."
        )
    return AltUpSpec(
        num_streams,
        active,
        layer_vocab_size=reader.take("vocab_size_per_layer_input", int, 262_144, positive=True),
        layer_width=reader.take("hidden_size_per_layer_input", int, 256, positive=True),
        laurel_rank=reader.take("laurel_rank", int, 64, positive=True),
        activation=activation,
        norm=norm,
        is_scaled=reader.take("altup_correct_scale", bool, True),
    )


def _halves(reader: ConfigReader, activation: str, num_layers: int) -> tuple[MlpSpec, ...]:
    widths = _by_layer(reader, "intermediate_size", int, num_layers)
    if "activation_sparsity_pattern" not in reader:
        raise UnsupportedConfig(f"{reader.where} lacks activation_sparsity_pattern. Add it, a share a layer.")
    sparsities = _by_layer(reader, "activation_sparsity_pattern", float, num_layers)
    if not all(0 <= share < 1 for share in sparsities):
        raise UnsupportedConfig(
            f"{reader.where} has activation_sparsity_pattern {sparsities}; shares of at least 0 and below 1 "
            "are needed. Correct the file."
        )
    return tuple(
        MlpSpec(width, activation, sparsity=share) for width, share in zip(widths, sparsities, strict=True)
    )


def _by_layer(reader: ConfigReader, key: str, kind: type[T], num_layers: int) -> tuple[T, ...]:
    """Return a number for each layer, of which a config gives one or all."""
    if not reader.holds(key, list):
        return (reader.take(key, kind),) * num_layers
    listed = reader.take_list(key, kind) or ()
    if len(listed) != num_layers:
        raise UnsupportedConfig(
            f"{reader.where} lists {len(listed)} of {key} for {num_layers} layers. Correct the file."
        )
    return listed


def _parse_texts(reader: ConfigReader) -> DecoderSpec:
    return texts_alone(reader, parse, _OF_IMAGES_AND_SOUNDS)


def _rename(spec: DecoderSpec, weights: Weights, *, prefix: str = "model.") -> Mapping[str, TensorSource]:
    """Name the tensors; layers that keep nothing have some all the same in published files."""
    assert spec.altup is not None
    outer = {
        **_OUTER,
        **{
            f"altup_{theirs}.{index}": f"altup.{ours}.{index}"
            for theirs, ours in (("projections", "spread"), ("unembed_projections", "gather"))
            for index in range(spec.altup.num_streams - 1)
        },
    }
    tensors = rename(weights, outer, _LAYER, stack="layers.", prefix=prefix)
    keeps = [isinstance(layer.attention, SelfAttentionSpec) for layer in spec.layers]
    return {
        name: source
        for name, source in tensors.items()
        if (kept := _KEPT.fullmatch(name)) is None or keeps[int(kept[1])]
    }


BRANDS: tuple[Brand, ...] = (
    Brand("Gemma3nForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),
    # As E2B and E4B are published; neither images nor sounds are read.
    Brand(
        "Gemma3nForConditionalGeneration",
        ModelKind.DECODER,
        _parse_texts,
        Decoder,
        partial(_rename, prefix="model.language_model."),
        tuple(f"model.{part}.*" for part in ("vision_tower", "audio_tower", "embed_vision", "embed_audio")),
    ),
)
