"""Read OPT checkpoints (arXiv 2205.01068). Runs nothing.

OPT-350M is refused: it normalises behind each half, and its embeddings are narrower than its layers.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cynosure.attention import AttentionSpec
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

#: Rows of the table of positions that come before the first position, and that no token reads.
_NUM_UNREAD_ROWS = 2


def _from_first_position(table: Tensor) -> Tensor:
    return table[_NUM_UNREAD_ROWS:]


_OUTER: Mapping[str, Target] = {
    "embed_tokens": "embed",
    "embed_positions": {"positions": _from_first_position},
    "final_layer_norm": "norm",
    "lm_head": "head",
}
_INNER: Mapping[str, Target] = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.o",
    "final_layer_norm": "mlp_norm",
    "fc1": "mlp.up",
    "fc2": "mlp.down",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of an `OPTForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("num_attention_heads", int, positive=True))
    reader.expect("do_layer_norm_before", [True])
    reader.expect("_remove_final_layer_norm", [False])
    reader.expect("layer_norm_elementwise_affine", [True])
    reader.expect("word_embed_proj_dim", [hidden_size])
    has_bias = reader.take("enable_bias", bool, True)
    norm = NormSpec(NormKind.LAYER, 1e-5, has_bias=True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None)), has_bias, has_bias),
        MlpSpec(
            reader.take("ffn_dim", int, positive=True),
            reader.expect("activation_function", ACTIVATIONS.keys(), "relu"),
            is_gated=False,
            has_bias=has_bias,
        ),
        norm,
    )
    num_positions = reader.take("max_position_embeddings", int, 2048, positive=True)
    # Of training alone.
    reader.ignore("activation_dropout", "init_std", "layerdrop")
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("num_hidden_layers", int, positive=True),
        final_norm=norm,
        max_model_len=declared_length(reader, num_positions),
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        num_positions=num_positions,
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="layers.", prefix="model.decoder.")


BRANDS: tuple[Brand, ...] = (Brand("OPTForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),)
