"""Read GLM-4 checkpoints: the 9B of 2024 (arXiv 2406.12793) and the 0414 series. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.naming import Target, rename, rows
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

#: The norms of the 0414 series, beside those of `llama.NORMS`.
_POST_NORMS: Mapping[str, Target] = {
    "post_self_attn_layernorm": "attention_post_norm",
    "post_mlp_layernorm": "mlp_post_norm",
}


def parse(reader: ConfigReader, *, has_post_norms: bool) -> DecoderSpec:
    """Return the spec of either generation; half of a head's channels rotate, as neighbours."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=0.5, is_interleaved=True)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1.5625e-07, positive=True))
    has_bias = reader.take("attention_bias", bool, True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        norm,
        has_post_norms,
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the fused gate and input of each layer."""
    mlp = spec.layers[0].mlp
    assert isinstance(mlp, MlpSpec)
    width = mlp.intermediate_size
    inner: dict[str, Target] = {
        **ATTENTION,
        **NORMS,
        **_POST_NORMS,
        "mlp.gate_up_proj": {"mlp.gate": rows(0, width), "mlp.up": rows(width, 2 * width)},
        "mlp.down_proj": "mlp.down",
    }
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


def _brand(architecture: str, parser: Callable[[ConfigReader], DecoderSpec]) -> Brand:
    return Brand(architecture, ModelKind.DECODER, parser, Decoder, _rename, ("*.rotary_emb.inv_freq",))


BRANDS: tuple[Brand, ...] = (
    _brand("GlmForCausalLM", partial(parse, has_post_norms=False)),
    _brand("Glm4ForCausalLM", partial(parse, has_post_norms=True)),
)
