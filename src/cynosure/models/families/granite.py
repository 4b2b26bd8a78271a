"""Read Granite 3 checkpoints, a Llama with four multipliers (muP, arXiv 2203.03466). Runs nothing."""

from __future__ import annotations

from cynosure.attention import AttentionSpec, Score
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import mask_of, read_heads, rename_llama
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GraniteForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    # In the place of the usual inverse root of head_dim.
    score = Score(scale=reader.take("attention_multiplier", float, 1.0, positive=True))
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope, score), has_bias, has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
            has_bias=reader.take("mlp_bias", bool, False),
        ),
        norm,
        residual_multiplier=reader.take("residual_multiplier", float, 1.0, positive=True),
    )
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("num_hidden_layers", int, positive=True),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
        embedding_multiplier=reader.take("embedding_multiplier", float, 1.0, positive=True),
        logit_multiplier=1.0 / reader.take("logits_scaling", float, 1.0, positive=True),
    )
    reader.finish()
    return spec


BRANDS: tuple[Brand, ...] = (
    Brand("GraniteForCausalLM", ModelKind.DECODER, parse, Decoder, rename_llama, ("*.rotary_emb.inv_freq",)),
)
