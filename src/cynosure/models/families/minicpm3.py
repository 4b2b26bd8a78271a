"""Read MiniCPM3 checkpoints (arXiv 2404.06395), latent attention under three multipliers. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention.mla import MlaWidths
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.deepseek import LATENT_NORM, latent_names, without_leaf
from cynosure.models.families.llama import MLP, NORMS, OUTER
from cynosure.models.families.naming import rename
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `MiniCPM3ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    attention = _attention(reader, hidden_size)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    mlp = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        has_bias=reader.take("mlp_bias", bool, False),
    )
    # Depth and width of the model that was tuned; what a layer adds and the logits are scaled by them.
    depth = reader.take("scale_depth", float, positive=True)
    layer = LayerSpec(attention, mlp, norm, residual_multiplier=depth / num_layers**0.5)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * num_layers,
        final_norm=norm,
        max_model_len=attention.position.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        embedding_multiplier=reader.take("scale_emb", float, positive=True),
        logit_multiplier=reader.take("dim_model_base", int, positive=True) / hidden_size,
    )
    reader.finish()
    return spec


def _attention(reader: ConfigReader, hidden_size: int) -> MlaSpec:
    num_heads = reader.take("num_attention_heads", int, positive=True)
    v_head_dim = reader.take("v_head_dim", int, None, positive=True)
    if v_head_dim is None and hidden_size % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has hidden_size = {hidden_size}, no multiple of num_attention_heads = "
            f"{num_heads}; v_head_dim can't be derived. Add it."
        )
    widths = MlaWidths(
        num_heads=num_heads,
        nope_dim=reader.take("qk_nope_head_dim", int, positive=True),
        rope_dim=reader.take("qk_rope_head_dim", int, positive=True),
        v_head_dim=v_head_dim or hidden_size // num_heads,
        latent_dim=reader.take("kv_lora_rank", int, positive=True),
    )
    # Derived, and written all the same. Every head has a key and a value of its own.
    reader.expect("num_key_value_heads", [num_heads])
    reader.expect("qk_head_dim", [widths.head_dim])
    reader.expect("head_dim", [widths.rope_dim])
    return MlaSpec(
        widths,
        read_rope(reader, widths.rope_dim, share=None),
        LATENT_NORM,
        scale=widths.head_dim**-0.5,
        q_latent_dim=reader.take("q_lora_rank", int, None, positive=True),
        has_bias=reader.take("attention_bias", bool, False),
    )


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    attention = spec.layers[0].attention
    assert isinstance(attention, MlaSpec)
    inner = {**NORMS, **MLP, **latent_names(attention.widths)}
    return without_leaf(rename(weights, OUTER, inner, stack="layers.", prefix="model."))


BRANDS: tuple[Brand, ...] = (
    Brand("MiniCPM3ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
