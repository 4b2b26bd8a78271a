"""Read SmolLM3 checkpoints, a Llama with layers that tell no positions (arXiv 2501.18795). Runs nothing."""

from __future__ import annotations

from cynosure.attention import AttentionSpec
from cynosure.attention.positions import NoPosition
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import Windows, mask_of, read_heads, rename_llama, windows_by_type
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `SmolLM3ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, theta=2_000_000.0, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    mlp = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        has_bias=reader.take("mlp_bias", bool, False),
    )
    are_roped = roped_layers(reader, num_layers)
    kinds = list(zip(are_roped, _windows(reader, are_roped), strict=True))
    layers = {
        (is_roped, window): LayerSpec(
            SelfAttentionSpec(
                AttentionSpec(heads, mask_of(window), rope if is_roped else NoPosition()), has_bias, has_bias
            ),
            mlp,
            norm,
        )
        for is_roped, window in kinds
    }
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(layers[kind] for kind in kinds),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
    )
    reader.finish()
    return spec


def roped_layers(reader: ConfigReader, num_layers: int) -> tuple[bool, ...]:
    """Return which layers rotate. The key's name says the opposite: its ones rotate, its zeros do not."""
    every = reader.take("no_rope_layer_interval", int, 4, positive=True)
    listed = reader.take_list("no_rope_layers", int)
    if not listed:
        return tuple((layer + 1) % every != 0 for layer in range(num_layers))
    if len(listed) < num_layers or not set(listed) <= {0, 1}:
        raise UnsupportedConfig(
            f"{reader.where} has no_rope_layers {listed[:8]} ... ({len(listed)}) for {num_layers} layers; as "
            "many of 0 and 1 are needed. Correct it."
        )
    return tuple(value == 1 for value in listed[:num_layers])


def _windows(reader: ConfigReader, are_roped: tuple[bool, ...]) -> Windows:
    """Return windows for the layers that do not rotate, unless the layers' kinds are listed."""
    window = reader.take("sliding_window", int, None, positive=True)
    # Written by the authors, and read by no graph.
    reader.ignore("max_window_layers", "pretraining_tp")
    if not reader.take("use_sliding_window", bool, False):
        reader.take_list("layer_types", str)
        return (None,) * len(are_roped)
    listed = windows_by_type(reader, len(are_roped), window)
    return listed or tuple(None if is_roped else window for is_roped in are_roped)


BRANDS: tuple[Brand, ...] = (
    Brand("SmolLM3ForCausalLM", ModelKind.DECODER, parse, Decoder, rename_llama, ("*.rotary_emb.inv_freq",)),
)
