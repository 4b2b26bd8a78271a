"""Read Granite 3 checkpoints, a Llama with four multipliers (muP, arXiv 2203.03466). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.attention import AttentionSpec, Score
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.expert_stacks import stacked
from cynosure.models.families.llama import ATTENTION, NORMS, OUTER, mask_of, read_heads, rename_llama
from cynosure.models.families.naming import rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.moe import MoeSpec, SoftmaxRouterSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader, *, is_mixture: bool) -> DecoderSpec:
    """Return the spec of either: with one feed-forward half a layer, or a mixture."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    # In the place of the usual inverse root of head_dim.
    score = Score(scale=reader.take("attention_multiplier", float, 1.0, positive=True))
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope, score), has_bias, has_bias),
        _mixture(reader) if is_mixture else _mlp(reader),
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


def _mlp(reader: ConfigReader) -> MlpSpec:
    return MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        has_bias=reader.take("mlp_bias", bool, False),
    )


def _mixture(reader: ConfigReader) -> MoeSpec:
    """Return the mixture; a softmax over those chosen is that over all, divided by their sum."""
    expert = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
    )
    num_experts = reader.take("num_local_experts", int, 8, positive=True)
    num_chosen = reader.take("num_experts_per_tok", int, 2, positive=True)
    if num_chosen > num_experts:
        raise UnsupportedConfig(
            f"{reader.where} chooses {num_chosen} of {num_experts} experts. Correct num_experts_per_tok."
        )
    return MoeSpec(num_experts, SoftmaxRouterSpec(num_chosen), expert)


def _rename_mixture(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    mixture = spec.layers[0].mlp
    assert isinstance(mixture, MoeSpec)
    stacks = ("block_sparse_moe.input_linear", "block_sparse_moe.output_linear")
    inner = {
        **ATTENTION,
        **NORMS,
        "block_sparse_moe.router.layer": "mlp.router",
        **stacked(mixture, *stacks, is_input_first=False),
    }
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


_IGNORED = ("*.rotary_emb.inv_freq",)

BRANDS: tuple[Brand, ...] = (
    Brand(
        "GraniteForCausalLM",
        ModelKind.DECODER,
        partial(parse, is_mixture=False),
        Decoder,
        rename_llama,
        _IGNORED,
    ),
    Brand(
        "GraniteMoeForCausalLM",
        ModelKind.DECODER,
        partial(parse, is_mixture=True),
        Decoder,
        _rename_mixture,
        _IGNORED,
    ),
)
