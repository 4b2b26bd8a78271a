"""Read EXAONE 4.0 checkpoints (arXiv 2507.11407), which normalise behind each half. Runs nothing.

Where some layers have a window, the others have no position.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.attention.positions import NoPosition
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
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_NORMS: Mapping[str, Target] = {
    "post_attention_layernorm": "attention_post_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of an `Exaone4ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    mlp = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
    )
    window = _stated_window(reader)

    def layer(own: int | None) -> LayerSpec:
        position = NoPosition() if own is None and window is not None else rope
        attention = SelfAttentionSpec(AttentionSpec(heads, mask_of(own), position), qk_norm=norm)
        return LayerSpec(attention, mlp, norm, has_post_norms=True, has_pre_norms=False)

    windows = _windows(reader, reader.take("num_hidden_layers", int, positive=True), window)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(map(layer, windows)),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _stated_window(reader: ConfigReader) -> int | None:
    """Return the window; null means none, and an absent key would mean one of 4096 to the published graph."""
    if "sliding_window" not in reader:
        raise UnsupportedConfig(f"{reader.where} lacks sliding_window. Add it; null where no layer has one.")
    return reader.take("sliding_window", int, None, positive=True)


def _windows(reader: ConfigReader, num_layers: int, window: int | None) -> Windows:
    """Return the windows of the kinds that the config lists, else of all but each so-many-th layer."""
    listed = windows_by_type(reader, num_layers, window)
    if listed is not None:
        # A pattern, be it of letters, says again what the list says; the published graph reads the list.
        reader.ignore("sliding_window_pattern")
        return listed
    every = reader.take("sliding_window_pattern", int, 4, positive=True)
    return tuple(None if (layer + 1) % every == 0 else window for layer in range(num_layers))


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, OUTER, {**ATTENTION, **MLP, **_NORMS}, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (Brand("Exaone4ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),)
