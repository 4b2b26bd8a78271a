"""Read OLMo 2 checkpoints (arXiv 2501.00656), whose layers normalise behind each half. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import ATTENTION, MLP, OUTER, mask_of, read_heads
from cynosure.models.families.naming import rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_NORMS = {
    "post_attention_layernorm": "attention_post_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of an `Olmo2ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    attention = SelfAttentionSpec(
        AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias, norm, is_qk_norm_whole=True
    )
    mlp = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
    )
    layer = LayerSpec(attention, mlp, norm, has_post_norms=True, has_pre_norms=False)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("num_hidden_layers", int, positive=True),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, OUTER, {**ATTENTION, **MLP, **_NORMS}, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (Brand("Olmo2ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),)
