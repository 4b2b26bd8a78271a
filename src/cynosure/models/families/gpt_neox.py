"""Read GPT-NeoX checkpoints, Pythia among them (arXiv 2204.06745, 2304.01373). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import NORMS, mask_of
from cynosure.models.families.naming import Target, grouped, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"embed_in": "embed", "final_layer_norm": "norm", "embed_out": "head"}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GPTNeoXForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("num_attention_heads", int, positive=True))
    # Both keys had a name of their own before transformers 5.
    theta = reader.take("rotary_emb_base", float, 10_000.0, positive=True)
    share = reader.take("rotary_pct", float, 0.25, positive=True)
    rope = read_rope(reader, heads.head_dim, theta=theta, share=share)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-5, positive=True), has_bias=True)
    has_bias = reader.take("attention_bias", bool, True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "gelu"),
            is_gated=False,
            has_bias=True,
        ),
        norm,
        is_parallel=reader.take("use_parallel_residual", bool, True),
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the projection that is fused by head."""
    block = spec.layers[0].attention
    assert isinstance(block, SelfAttentionSpec)
    num_heads = block.attention.heads.num_heads
    inner: dict[str, Target] = {
        **NORMS,
        "attention.query_key_value": grouped(num_heads, num_heads),
        "attention.dense": "attention.o",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    }
    return rename(weights, _OUTER, inner, stack="layers.", prefix="gpt_neox.")


#: Early files also hold the causal mask and the frequencies.
_UNREAD = ("*.attention.bias", "*.attention.masked_bias", "*.rotary_emb.inv_freq")

BRANDS: tuple[Brand, ...] = (
    Brand("GPTNeoXForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, _UNREAD),
)
