"""Read Phi-1, Phi-1.5 and Phi-2 checkpoints (arXiv 2306.11644, 2309.05463). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, mask_of
from cynosure.models.families.naming import Target, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"embed_tokens": "embed", "final_layernorm": "norm", "lm_head": "head"}
_INNER: Mapping[str, Target] = {
    **ATTENTION,
    # One norm stands before both halves.
    "input_layernorm": {"attention_norm": None, "mlp_norm": None},
    "self_attn.dense": "attention.o",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `PhiForCausalLM`; half of a head's channels rotate where the config is silent."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_heads = reader.take("num_attention_heads", int, positive=True)
    num_kv_heads = reader.take("num_key_value_heads", int, num_heads, positive=True)
    heads = equal_heads(reader, hidden_size, num_heads, num_kv_heads)
    rope = read_rope(reader, heads.head_dim, share=0.5, max_positions=2048)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-5, positive=True), has_bias=True)
    reader.expect("qk_layernorm", [False])
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_qkv_bias=True, has_out_bias=True),
        MlpSpec(
            reader.take("intermediate_size", int, 4 * hidden_size, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "gelu_new"),
            is_gated=False,
            has_bias=True,
        ),
        norm,
        is_parallel=True,
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len, has_head_bias=True)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (
    Brand("PhiForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
