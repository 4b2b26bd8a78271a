"""Read GPT-J checkpoints (Wang and Komatsuzaki 2021). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.attention.positions import Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import mask_of
from cynosure.models.families.naming import Target, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.self_attention import SelfAttentionSpec

#: Of the rotation; no config states it.
_THETA = 10_000.0

_OUTER: Mapping[str, Target] = {"wte": "embed", "ln_f": "norm", "lm_head": "head"}
_INNER: Mapping[str, Target] = {
    # One norm stands before both halves.
    "ln_1": {"attention_norm": None, "mlp_norm": None},
    "attn.q_proj": "attention.q",
    "attn.k_proj": "attention.k",
    "attn.v_proj": "attention.v",
    "attn.out_proj": "attention.o",
    "mlp.fc_in": "mlp.up",
    "mlp.fc_out": "mlp.down",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GPTJForCausalLM`."""
    hidden_size = reader.take("n_embd", int, 4096, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("n_head", int, 16, positive=True))
    max_model_len = declared_length(reader, reader.take("n_positions", int, 2048, positive=True))
    width = reader.take("rotary_dim", int, 64, positive=True)
    if width > heads.head_dim or width % 2:
        raise UnsupportedConfig(
            f"{reader.where} has rotary_dim = {width}; a head has {heads.head_dim} channels, and an even "
            "number of them can rotate. Correct it."
        )
    rope = Rope(width, _THETA, is_interleaved=True, max_model_len=max_model_len)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True), True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope)),
        MlpSpec(
            reader.take("n_inner", int, 4 * hidden_size, positive=True),
            reader.expect("activation_function", ACTIVATIONS.keys(), "gelu_new"),
            is_gated=False,
            has_bias=True,
        ),
        norm,
        is_parallel=True,
    )
    # Written by the authors, and read by no graph; what begins with `summary` is a classifier's.
    reader.ignore("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")
    reader.expect("rotary", [True])
    reader.expect("scale_attn_weights", [True])
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 50400, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("n_layer", int, 28, positive=True),
        final_norm=norm,
        max_model_len=max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
        has_head_bias=True,
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="h.", prefix="transformer.")


#: Early files also hold the causal mask.
_UNREAD = ("*.attn.bias", "*.attn.masked_bias")

BRANDS: tuple[Brand, ...] = (Brand("GPTJForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, _UNREAD),)
