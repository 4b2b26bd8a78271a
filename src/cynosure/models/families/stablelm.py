"""Read StableLM checkpoints of 1.6B and 3B, StableLM 2 among them (arXiv 2402.17834). Runs nothing.

StableLM 2 12B is refused: it normalises the queries and keys of each head by weights of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, MLP, NORMS, OUTER, mask_of
from cynosure.models.families.naming import Target, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `StableLmForCausalLM`; a quarter of a head's channels rotate by default."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_heads = reader.take("num_attention_heads", int, positive=True)
    num_kv_heads = reader.take("num_key_value_heads", int, 32, positive=True)
    heads = equal_heads(reader, hidden_size, num_heads, num_kv_heads)
    rope = read_rope(reader, heads.head_dim, share=0.25)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-5, positive=True), has_bias=True)
    reader.expect("qk_layernorm", [False])
    has_bias = reader.take("use_qkv_bias", bool, False)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        norm,
        is_parallel=reader.take("use_parallel_residual", bool, False),
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; the norm that parallel halves share becomes one for each."""
    shared: Mapping[str, Target] = {"input_layernorm": {"attention_norm": None, "mlp_norm": None}}
    norms = shared if spec.layers[0].is_parallel else NORMS
    return rename(weights, OUTER, {**ATTENTION, **MLP, **norms}, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (
    Brand("StableLmForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
