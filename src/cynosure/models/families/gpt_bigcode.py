"""Read GPT-BigCode checkpoints: SantaCoder, StarCoder, Granite Code (arXiv 2305.06161). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Score
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import mask_of
from cynosure.models.families.naming import Target, grouped, rename
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"wte": "embed", "wpe": "positions", "ln_f": "norm", "lm_head": "head"}

#: Roundings of the softmax (ours is in float32 at least), and buffers of the first inference code.
_RUNTIME = (
    "attention_softmax_in_fp32",
    "scale_attention_softmax_in_fp32",
    "inference_runner",
    "max_batch_size",
    "max_sequence_length",
    "pad_key_length",
    "pre_allocate_kv_cache",
    "validate_runner_input",
)


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GPTBigCodeForCausalLM`: a GPT-2 whose heads may share one key and value."""
    hidden_size = reader.take("n_embd", int, 768, positive=True)
    num_heads = reader.take("n_head", int, 12, positive=True)
    num_kv_heads = 1 if reader.take("multi_query", bool, True) else num_heads
    # Derived, and written all the same.
    reader.expect("num_key_value_heads", [num_kv_heads])
    heads = equal_heads(reader, hidden_size, num_heads, num_kv_heads)
    scale = heads.head_dim**-0.5 if reader.take("scale_attn_weights", bool, True) else 1.0
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True), True)
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), score=Score(scale)), True, True),
        MlpSpec(
            reader.take("n_inner", int, 4 * hidden_size, positive=True),
            reader.expect("activation_function", ACTIVATIONS.keys(), "gelu_pytorch_tanh"),
            is_gated=False,
            has_bias=True,
        ),
        norm,
    )
    num_positions = reader.take("n_positions", int, 1024, positive=True)
    reader.ignore(*_RUNTIME, "summary_type", "summary_use_proj", "summary_activation")
    reader.ignore("summary_proj_to_labels")
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 50257, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("n_layer", int, 12, positive=True),
        final_norm=norm,
        max_model_len=declared_length(reader, num_positions),
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        num_positions=num_positions,
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the fused projection; unlike GPT-2's, weights are `[out, in]`."""
    block = spec.layers[0].attention
    assert isinstance(block, SelfAttentionSpec)
    heads = block.attention.heads
    inner: dict[str, Target] = {
        "ln_1": "attention_norm",
        "ln_2": "mlp_norm",
        "attn.c_attn": grouped(heads.num_heads, heads.num_kv_heads),
        "attn.c_proj": "attention.o",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
    }
    return rename(weights, _OUTER, inner, stack="h.", prefix="transformer.")


BRANDS: tuple[Brand, ...] = (
    Brand(
        "GPTBigCodeForCausalLM",
        ModelKind.DECODER,
        parse,
        Decoder,
        _rename,
        ("*.attn.bias", "*.attn.masked_bias"),
    ),
)
