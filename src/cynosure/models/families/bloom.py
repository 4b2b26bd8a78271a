"""Read Bloom checkpoints (arXiv 2211.05100). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.positions import Alibi
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.naming import Change, Target, rename
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {
    "word_embeddings": "embed",
    "word_embeddings_layernorm": "embed_norm",
    "ln_f": "norm",
    "lm_head": "head",
}

#: Choices of fused kernels, and of rounding, in the code that trained it.
_KERNELS = (
    "attention_softmax_in_fp32",
    "bias_dropout_fusion",
    "masked_softmax_fusion",
    "offset_alibi",
    "skip_bias_add",
    "skip_bias_add_qkv",
)


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a Bloom."""
    hidden_size = reader.take("hidden_size", int, reader.take("n_embed", int, 64), positive=True)
    num_heads = reader.take("n_head", int, reader.take("num_attention_heads", int, 8), positive=True)
    if hidden_size % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has {hidden_size} channels, no multiple of its {num_heads} heads. Correct it."
        )
    heads = Heads.of(num_heads, hidden_size // num_heads)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True), True)
    mlp = MlpSpec(
        reader.take("n_inner", int, 4 * hidden_size, positive=True), "gelu_new", is_gated=False, has_bias=True
    )
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, position=Alibi(num_heads)), True, True), mlp, norm
    )
    reader.expect("apply_residual_connection_post_layernorm", [False])
    # Slices of the output projection were added one by one; only then does the number of ranks matter.
    reader.expect("slow_but_exact", [False])
    reader.ignore("pretraining_tp", *_KERNELS)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("n_layer", int, 2, positive=True),
        final_norm=norm,
        # ALiBi reaches further than it was trained to, so that a caller may declare more.
        max_model_len=declared_length(reader, None) or reader.take("seq_length", int, None),
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        embedding_norm=norm,
    )
    reader.ignore("seq_length")
    reader.finish()
    return spec


def _part(heads: Heads, index: int) -> Change:
    """Return a change that takes q, k or v out of a projection fused by head."""

    def change(tensor: Tensor) -> Tensor:
        by_head = tensor.unflatten(0, (heads.num_heads, 3, heads.head_dim))
        return by_head[:, index].flatten(0, 1)

    return change


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    block = spec.layers[0].attention
    assert isinstance(block, SelfAttentionSpec)
    heads = block.attention.heads
    inner: dict[str, Target] = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "self_attention.query_key_value": {
            f"attention.{part}": _part(heads, i) for i, part in enumerate("qkv")
        },
        "self_attention.dense": "attention.o",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    }
    return rename(weights, _OUTER, inner, stack="h.", prefix="transformer.")


BRANDS: tuple[Brand, ...] = (Brand("BloomForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),)
