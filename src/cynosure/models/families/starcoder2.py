"""Read StarCoder2 checkpoints (arXiv 2402.19173). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_INNER: Mapping[str, Target] = {**ATTENTION, **NORMS, "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Starcoder2ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.LAYER, reader.take("norm_epsilon", float, 1e-5, positive=True), has_bias=True)
    has_bias = reader.take("use_bias", bool, True)
    window = reader.take("sliding_window", int, None, positive=True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(window), rope), has_bias, has_bias),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "gelu_pytorch_tanh"),
            is_gated=False,
            has_bias=has_bias,
        ),
        norm,
    )
    # The authors' files still hold words of their first model, which the published graph does not read.
    reader.ignore("activation_function", "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32")
    reader.ignore("residual_dropout", "layer_norm_epsilon")
    reader.expect("mlp_type", ["default"])
    reader.expect("norm_type", ["layer_norm"])
    reader.expect("scale_attn_weights", [True])
    return decoder_of(reader, layer, hidden_size, rope.max_model_len, is_head_tied=True)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, OUTER, _INNER, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (Brand("Starcoder2ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),)
