"""Read DeepSeek-V3 checkpoints (arXiv 2412.19437). Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cynosure.attention.mla import MlaWidths
from cynosure.attention.positions import Rope, Yarn
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import MLP, NORMS, OUTER
from cynosure.models.families.naming import Change, Target, rename
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.moe import GroupRouterSpec, MoeSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope

_MOE: dict[str, Target] = {
    "mlp.gate": "mlp.router",
    "mlp.gate.e_score_correction_bias": "mlp.router.correction",
    **{f"mlp.shared_experts.{part}_proj": f"mlp.shared.{part}" for part in ("gate", "up", "down")},
}
#: The norms of latents do not take the config's epsilon.
_LATENT_NORM = NormSpec(NormKind.RMS, 1e-6)

_NUMBER = re.compile(r"(?:model\.)?layers\.(\d+)\..+")
_SPLIT = (".w_k.weight", ".w_v.weight")


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `DeepseekV3ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    num_dense = reader.take("first_k_dense_replace", int, 0)
    reader.expect("moe_layer_freq", [1])
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    attention = _attention(reader)
    activation = reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")
    dense = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
    moe = _moe(reader, activation)
    # Layers behind the last, which predict further tokens for drafts; `names` leaves them out.
    reader.ignore("num_nextn_predict_layers")
    layers = (LayerSpec(attention, dense, norm), LayerSpec(attention, moe, norm))
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(layers[layer >= num_dense] for layer in range(num_layers)),
        final_norm=norm,
        max_model_len=attention.position.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def names(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; the projection from the latent splits into each head's key and value, as views."""
    layer = spec.layers[-1]
    assert isinstance(layer.attention, MlaSpec)
    parts = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
    num_experts = layer.mlp.num_experts if isinstance(layer.mlp, MoeSpec) else 0
    inner: dict[str, Target] = {
        **NORMS,
        **MLP,
        **_MOE,
        **_attention_names(layer.attention.widths),
        **{
            f"mlp.experts.{expert}.{theirs}": f"mlp.experts.each.{expert}.{ours}"
            for expert in range(num_experts)
            for theirs, ours in parts.items()
        },
    }
    tensors = rename(weights, OUTER, inner, stack="layers.", prefix="model.")
    drafts = {name.split(".")[2] for name in weights.names() if name.endswith(".eh_proj.weight")}
    return {
        name.removesuffix(".weight") if name.endswith(_SPLIT) else name: source
        for name, source in tensors.items()
        if _number(name) not in drafts
    }


def _attention_names(widths: MlaWidths) -> dict[str, Target]:
    """Map the projections; that from the latent splits into each head's key and value, as views."""

    def of_heads(start: int, stop: int) -> Change:
        return lambda tensor: tensor.unflatten(0, (widths.num_heads, -1))[:, start:stop]

    nope, both = widths.nope_dim, widths.nope_dim + widths.v_head_dim
    return {
        "self_attn.q_proj": "attention.q",
        "self_attn.q_a_proj": "attention.q_down",
        "self_attn.q_a_layernorm": "attention.q_norm",
        "self_attn.q_b_proj": "attention.q",
        "self_attn.kv_a_proj_with_mqa": "attention.kv_down",
        "self_attn.kv_a_layernorm": "attention.kv_norm",
        "self_attn.kv_b_proj": {"attention.w_k": of_heads(0, nope), "attention.w_v": of_heads(nope, both)},
        "self_attn.o_proj": "attention.o",
    }


def _number(name: str) -> str | None:
    match = _NUMBER.fullmatch(name)
    return None if match is None else match[1]


def _attention(reader: ConfigReader) -> MlaSpec:
    widths = MlaWidths(
        num_heads=reader.take("num_attention_heads", int, positive=True),
        nope_dim=reader.take("qk_nope_head_dim", int, positive=True),
        rope_dim=reader.take("qk_rope_head_dim", int, positive=True),
        v_head_dim=reader.take("v_head_dim", int, positive=True),
        latent_dim=reader.take("kv_lora_rank", int, positive=True),
    )
    # Derived, and written all the same. Every head has a key and a value of its own.
    reader.expect("num_key_value_heads", [widths.num_heads])
    reader.expect("qk_head_dim", [widths.head_dim])
    reader.expect("head_dim", [widths.rope_dim])
    is_interleaved = reader.take("rope_interleave", bool, True)
    position = read_rope(reader, widths.rope_dim, is_interleaved=is_interleaved)
    return MlaSpec(
        widths,
        position,
        _LATENT_NORM,
        scale=widths.head_dim**-0.5 * _score_scale(position),
        q_latent_dim=reader.take("q_lora_rank", int, None, positive=True),
        has_bias=reader.take("attention_bias", bool, False),
    )


def _score_scale(position: Rope) -> float:
    """Return what YaRN's `mscale_all_dim` does to scores, beside what it does to the rotation."""
    return position.scaling.score_scale if isinstance(position.scaling, Yarn) else 1.0


def _moe(reader: ConfigReader, activation: str) -> MoeSpec:
    reader.expect("scoring_func", ["sigmoid"])
    reader.expect("topk_method", ["noaux_tc"])
    num_experts = reader.take("n_routed_experts", int, positive=True)
    router = GroupRouterSpec(
        num_chosen=reader.take("num_experts_per_tok", int, positive=True),
        num_groups=reader.take("n_group", int, 1, positive=True),
        num_chosen_groups=reader.take("topk_group", int, 1, positive=True),
        is_normalised=reader.take("norm_topk_prob", bool, True),
        scale=reader.take("routed_scaling_factor", float, 1.0),
    )
    group_size = num_experts / router.num_groups
    reach = int(group_size) * router.num_chosen_groups
    if (
        group_size % 1
        or group_size < 2
        or router.num_chosen_groups > router.num_groups
        or router.num_chosen > reach
    ):
        raise UnsupportedConfig(
            f"{reader.where} chooses {router.num_chosen} of {num_experts} experts in "
            f"{router.num_chosen_groups} of {router.num_groups} groups: groups must be equal, of two at "
            "least, and hold enough. Correct n_group, topk_group or num_experts_per_tok."
        )
    width = reader.take("moe_intermediate_size", int, positive=True)
    num_shared = reader.take("n_shared_experts", int, 0)
    shared = MlpSpec(width * num_shared, activation) if num_shared else None
    return MoeSpec(num_experts, router, MlpSpec(width, activation), shared)


BRANDS: tuple[Brand, ...] = (Brand("DeepseekV3ForCausalLM", ModelKind.DECODER, parse, Decoder, names),)
