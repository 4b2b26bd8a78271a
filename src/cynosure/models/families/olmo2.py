"""Read OLMo 2 and OLMo 3 checkpoints, whose layers normalise behind each half. Runs nothing.

OLMo 2 (arXiv 2501.00656); OLMo 3 adds windows, and stretches the rotation of the layers without one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from cynosure.attention import AttentionSpec
from cynosure.attention.positions import NoScaling, Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import (
    ATTENTION,
    MLP,
    OUTER,
    Windows,
    mask_of,
    read_heads,
    windows_by_type,
)
from cynosure.models.families.naming import rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import LAYER_TYPES, read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_NORMS = {
    "post_attention_layernorm": "attention_post_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}
#: Gives the position of the layers that see all, and that of the layers with a window.
_Ropes = Callable[[ConfigReader, int], tuple[Rope, Rope]]


def _one_rope(reader: ConfigReader, head_dim: int) -> tuple[Rope, Rope]:
    rope = read_rope(reader, head_dim, share=None)
    return rope, rope


def _two_ropes(reader: ConfigReader, head_dim: int) -> tuple[Rope, Rope]:
    """Return both positions; in the older spelling, the one scaling is that of the layers that see all."""
    theta = 500_000.0
    stated = reader.sub("rope_parameters")
    if stated is not None and not all(stated.holds(kind, dict) for kind in LAYER_TYPES):
        raise UnsupportedConfig(
            f"{reader.where} has rope_parameters for all layers together; the published graph of this "
            f"architecture reads those of {' and of '.join(LAYER_TYPES)}. State both."
        )
    wide = read_rope(reader, head_dim, theta=theta, share=None, layer_type="full_attention")
    if stated is None:
        return wide, replace(wide, scaling=NoScaling())
    return wide, read_rope(reader, head_dim, theta=theta, share=None, layer_type="sliding_attention")


def _no_windows(reader: ConfigReader, num_layers: int) -> Windows:
    return (None,) * num_layers


def _windows(reader: ConfigReader, num_layers: int) -> Windows:
    """Return windows in three layers of four, unless the layers' kinds are listed."""
    window = reader.take("sliding_window", int, 4096, positive=True)
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(None if (layer + 1) % 4 == 0 else window for layer in range(num_layers))


def _parser(
    ropes: _Ropes, windows: Callable[[ConfigReader, int], Windows]
) -> Callable[[ConfigReader], DecoderSpec]:
    def parse(reader: ConfigReader) -> DecoderSpec:
        hidden_size = reader.take("hidden_size", int, positive=True)
        heads = read_heads(reader, hidden_size)
        wide, local = ropes(reader, heads.head_dim)
        norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
        has_bias = reader.take("attention_bias", bool, False)
        mlp = MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        )

        def layer(window: int | None) -> LayerSpec:
            inner = AttentionSpec(heads, mask_of(window), wide if window is None else local)
            attention = SelfAttentionSpec(inner, has_bias, has_bias, norm, is_qk_norm_whole=True)
            return LayerSpec(attention, mlp, norm, has_post_norms=True, has_pre_norms=False)

        num_layers = reader.take("num_hidden_layers", int, positive=True)
        spec = DecoderSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            hidden_size=hidden_size,
            layers=tuple(layer(window) for window in windows(reader, num_layers)),
            final_norm=norm,
            max_model_len=wide.max_model_len,
            is_head_tied=reader.take("tie_word_embeddings", bool, False),
        )
        reader.finish()
        return spec

    return parse


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, OUTER, {**ATTENTION, **MLP, **_NORMS}, stack="layers.", prefix="model.")


def _brand(architecture: str, parser: Callable[[ConfigReader], DecoderSpec]) -> Brand:
    return Brand(architecture, ModelKind.DECODER, parser, Decoder, _rename)


BRANDS: tuple[Brand, ...] = (
    _brand("Olmo2ForCausalLM", _parser(_one_rope, _no_windows)),
    _brand("Olmo3ForCausalLM", _parser(_two_ropes, _windows)),
)
