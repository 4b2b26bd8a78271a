"""Read Falcon checkpoints of 7B, 11B, 40B and 180B (arXiv 2311.16867). Runs nothing.

Those with ALiBi (Falcon-RW) are refused: the published graph rounds their biases to bfloat16, whatever it
computes in, and ours would differ from what was trained.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Heads
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import mask_of
from cynosure.models.families.naming import Target, grouped, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"word_embeddings": "embed", "ln_f": "norm", "lm_head": "head"}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `FalconForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    reader.expect("alibi", [False])
    reader.expect("apply_residual_connection_post_layernorm", [False])
    is_new = reader.take("new_decoder_architecture", bool, False)
    heads = _heads(reader, hidden_size, is_new)
    rope = read_rope(reader, heads.head_dim, share=None, max_positions=2048)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True), True)
    has_bias = reader.take("bias", bool, False)
    # One norm before both halves, or one before each; `_rename` sees which from the files.
    reader.expect("num_ln_in_parallel_attn", [1, 2] if is_new else [1], 2 if is_new else 1)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias),
        MlpSpec(
            reader.take("ffn_hidden_size", int, 4 * hidden_size, positive=True),
            reader.expect("activation", ACTIVATIONS.keys(), "gelu"),
            is_gated=False,
            has_bias=has_bias,
        ),
        norm,
        is_parallel=reader.expect("parallel_attn", [True] if is_new else [True, False], True),
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len, is_head_tied=True)


def _heads(reader: ConfigReader, hidden_size: int, is_new: bool) -> Heads:
    """Return the heads; the first architecture has one head of keys, or as many as there are queries."""
    num_heads = reader.take("num_attention_heads", int, positive=True)
    num_stated = reader.take("num_kv_heads", int, num_heads, positive=True)
    has_one = reader.take("multi_query", bool, True)
    if is_new:
        return equal_heads(reader, hidden_size, num_heads, num_stated)
    if has_one:
        return equal_heads(reader, hidden_size, num_heads, 1)
    reader.expect("num_kv_heads", [num_heads])
    return equal_heads(reader, hidden_size, num_heads)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the projection that is fused by K/V head; a norm that both halves share becomes one for each."""
    layer = spec.layers[0]
    assert isinstance(layer.attention, SelfAttentionSpec)
    heads = layer.attention.attention.heads
    shared: Target = {"attention_norm": None, "mlp_norm": None}
    inner: dict[str, Target] = {
        "input_layernorm": shared if layer.is_parallel else "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "ln_attn": "attention_norm",
        "ln_mlp": "mlp_norm",
        "self_attention.query_key_value": grouped(heads.num_heads, heads.num_kv_heads),
        "self_attention.dense": "attention.o",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    }
    return rename(weights, _OUTER, inner, stack="h.", prefix="transformer.")


BRANDS: tuple[Brand, ...] = (
    Brand("FalconForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
