"""Read DeepSeek-V2 checkpoints (arXiv 2405.04434), whose router is a softmax. Runs nothing."""

from __future__ import annotations

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.deepseek import names, read_latent_attention
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.moe import MoeSpec, SoftmaxGroupRouterSpec
from cynosure.models.norm import NormKind, NormSpec

_GREEDY, _GROUPS = "greedy", "group_limited_greedy"


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `DeepseekV2ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    num_dense = reader.take("first_k_dense_replace", int, 0)
    reader.expect("moe_layer_freq", [1])
    reader.expect("mlp_bias", [False])
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    attention = read_latent_attention(reader)
    activation = reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")
    dense = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
    halves = (dense, _mixture(reader, activation))
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(LayerSpec(attention, halves[layer >= num_dense], norm) for layer in range(num_layers)),
        final_norm=norm,
        max_model_len=attention.position.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _mixture(reader: ConfigReader, activation: str) -> MoeSpec:
    reader.expect("scoring_func", ["softmax"])
    # The authors' graph would divide the weights then, and not scale them; no published file asks for it.
    reader.expect("norm_topk_prob", [False])
    has_groups = reader.expect("topk_method", [_GREEDY, _GROUPS], _GREEDY) == _GROUPS
    num_experts = reader.take("n_routed_experts", int, positive=True)
    num_groups = reader.take("n_group", int, 1, positive=True)
    num_chosen_groups = reader.take("topk_group", int, 1, positive=True)
    router = SoftmaxGroupRouterSpec(
        reader.take("num_experts_per_tok", int, positive=True),
        num_groups if has_groups else 1,
        num_chosen_groups if has_groups else 1,
        scale=reader.take("routed_scaling_factor", float, 1.0),
    )
    reach = num_experts // router.num_groups * router.num_chosen_groups
    has_rest = bool(num_experts % router.num_groups)
    if has_rest or router.num_chosen_groups > router.num_groups or router.num_chosen > reach:
        raise UnsupportedConfig(
            f"{reader.where} chooses {router.num_chosen} of {num_experts} experts in "
            f"{router.num_chosen_groups} of {router.num_groups} groups: they must be equal, and hold enough. "
            "Correct n_group, topk_group or num_experts_per_tok."
        )
    width = reader.take("moe_intermediate_size", int, positive=True)
    num_shared = reader.take("n_shared_experts", int, 0)
    shared = MlpSpec(width * num_shared, activation) if num_shared else None
    return MoeSpec(num_experts, router, MlpSpec(width, activation), shared)


BRANDS: tuple[Brand, ...] = (Brand("DeepseekV2ForCausalLM", ModelKind.DECODER, parse, Decoder, names),)
