"""Read OLMo checkpoints (arXiv 2402.00838), a Llama whose norms have no weights. Runs nothing."""

from __future__ import annotations

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import mask_of, read_heads, rename_llama
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of an `OlmoForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    has_bias = reader.take("attention_bias", bool, False)
    layer = LayerSpec(
        SelfAttentionSpec(
            AttentionSpec(heads, mask_of(None), rope),
            has_bias,
            has_bias,
            qkv_clip=reader.take("clip_qkv", float, None, positive=True),
        ),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        # The published graph's own number; no key of a config says it.
        NormSpec(NormKind.LAYER, 1e-5, has_weight=False),
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


BRANDS: tuple[Brand, ...] = (
    Brand("OlmoForCausalLM", ModelKind.DECODER, parse, Decoder, rename_llama, ("*.rotary_emb.inv_freq",)),
)
