"""Read Cohere checkpoints (Command R, Aya 23: arXiv 2405.15032), whose halves share a norm. Runs nothing."""

from __future__ import annotations

from dataclasses import replace

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.cohere2 import rename_shared_norm
from cynosure.models.families.llama import mask_of, read_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `CohereForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    # Releases of the published graph differ in what an absent base means; every published file states it.
    rope = read_rope(reader, heads.head_dim, theta=None, share=None, is_interleaved=True)
    # Up to where texts are said to work; the published graph goes by max_position_embeddings, and so do we.
    reader.ignore("model_max_length")
    # Command R+ normalises each head by weights of its own.
    reader.expect("use_qk_norm", [False])
    has_bias = reader.take("attention_bias", bool, False)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-5, positive=True)),
        is_parallel=True,
    )
    scale = reader.take("logit_scale", float, 0.0625, positive=True)
    spec = decoder_of(reader, layer, hidden_size, rope.max_model_len, is_head_tied=True)
    return replace(spec, logit_multiplier=scale)


BRANDS: tuple[Brand, ...] = (
    Brand(
        "CohereForCausalLM",
        ModelKind.DECODER,
        parse,
        Decoder,
        rename_shared_norm,
        ("*.rotary_emb.inv_freq",),
    ),
)
