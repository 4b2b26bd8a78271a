"""Read DeepSeek-V3 (arXiv 2412.19437) and V3.2, which chooses its tokens (arXiv 2512.02556). Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

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
from cynosure.models.indexer import IndexerSpec
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
LATENT_NORM = NormSpec(NormKind.RMS, 1e-6)

_NUMBER = re.compile(r"(?:model\.)?layers\.(\d+)\..+")
_SPLIT = (".w_k.weight", ".w_v.weight")


def parse(reader: ConfigReader, *, is_indexed: bool = False) -> DecoderSpec:
    """Return the spec of either generation; from V3.2 on, layers choose the tokens that they attend to."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    num_dense = _num_dense(reader, num_layers, is_indexed=is_indexed)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    attention = read_latent_attention(reader)
    if is_indexed:
        attention = replace(attention, indexer=_indexer(reader, attention, num_layers))
    activation = reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")
    dense = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
    moe = read_mixture(reader, activation)
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


def _num_dense(reader: ConfigReader, num_layers: int, *, is_indexed: bool) -> int:
    """Return how many of the first layers have no mixture."""
    reader.expect("moe_layer_freq", [1])
    num_dense = reader.take("first_k_dense_replace", int, 3 if is_indexed else 0)
    listed = reader.take_list("mlp_layer_types", str) if is_indexed else None
    if listed is None:
        return num_dense
    found = listed.index("sparse") if "sparse" in listed else num_layers
    if listed != ("dense",) * found + ("sparse",) * (num_layers - found):
        raise UnsupportedConfig(
            f"{reader.where} has mlp_layer_types {listed[:8]} ... ({len(listed)}) for {num_layers} layers; "
            "dense ones, then sparse ones are supported. Correct the file, or report the checkpoint."
        )
    return found


def _indexer(reader: ConfigReader, attention: MlaSpec, num_layers: int) -> IndexerSpec:
    head_dim = reader.take("index_head_dim", int, 128, positive=True)
    kinds = reader.take_list("layer_types", str, ("indexed_attention",) * num_layers)
    if attention.q_latent_dim is None or head_dim < attention.widths.rope_dim:
        raise UnsupportedConfig(
            f"{reader.where} has q_lora_rank = {attention.q_latent_dim} and index_head_dim = {head_dim}; an "
            f"indexer needs compressed queries, and {attention.widths.rope_dim} channels to rotate. Correct "
            "the file."
        )
    if kinds != ("indexed_attention",) * num_layers:
        raise UnsupportedConfig(
            f"{reader.where} has other layer_types than indexed_attention for each of {num_layers} layers, "
            "which are not served here. Report the checkpoint."
        )
    reader.expect("mlp_bias", [False])
    return IndexerSpec(
        reader.take("index_n_heads", int, 64, positive=True),
        head_dim,
        reader.take("index_topk", int, 2048, positive=True),
        # Halves pair up here, whatever the queries and keys of attention do.
        replace(attention.position, is_interleaved=False),
        NormSpec(NormKind.LAYER, LATENT_NORM.eps, has_bias=True),
    )


def names(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; the projection from the latent splits into each head's key and value, as views."""
    attention = spec.layers[-1].attention
    assert isinstance(attention, MlaSpec)
    inner = {**NORMS, **MLP, **mixture_names(spec), **latent_names(attention.widths)}
    tensors = rename(weights, OUTER, inner, stack="layers.", prefix="model.")
    return without_drafts(without_leaf(tensors), weights)


def mixture_names(spec: DecoderSpec) -> dict[str, Target]:
    """Map a router with corrections, what all tokens share, and the experts, each with its own tensors."""
    parts = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
    sizes = [layer.mlp.num_experts for layer in spec.layers if isinstance(layer.mlp, MoeSpec)]
    experts = {
        f"mlp.experts.{expert}.{theirs}": f"mlp.experts.each.{expert}.{ours}"
        for expert in range(max(sizes, default=0))
        for theirs, ours in parts.items()
    }
    return {**_MOE, **experts}


def without_leaf(tensors: Mapping[str, TensorSource]) -> dict[str, TensorSource]:
    """Rename the halves of the projection from the latent, which are parameters and no layers."""
    return {
        name.removesuffix(".weight") if name.endswith(_SPLIT) else name: source
        for name, source in tensors.items()
    }


def without_drafts(tensors: Mapping[str, TensorSource], weights: Weights) -> dict[str, TensorSource]:
    """Leave out the layers behind the last, which predict further tokens for drafts."""
    drafts = {name.split(".")[2] for name in weights.names() if name.endswith(".eh_proj.weight")}
    return {name: source for name, source in tensors.items() if _number(name) not in drafts}


def latent_names(widths: MlaWidths) -> dict[str, Target]:
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
        "self_attn.indexer.wq_b": "attention.indexer.q",
        "self_attn.indexer.wk": "attention.indexer.k",
        "self_attn.indexer.k_norm": "attention.indexer.norm",
        "self_attn.indexer.weights_proj": "attention.indexer",
    }


def _number(name: str) -> str | None:
    match = _NUMBER.fullmatch(name)
    return None if match is None else match[1]


def read_latent_attention(reader: ConfigReader) -> MlaSpec:
    """Return attention to latents, its heads all as wide."""
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
        LATENT_NORM,
        scale=widths.head_dim**-0.5 * _score_scale(position),
        q_latent_dim=reader.take("q_lora_rank", int, None, positive=True),
        has_bias=reader.take("attention_bias", bool, False),
    )


def _score_scale(position: Rope) -> float:
    """Return what YaRN's `mscale_all_dim` does to scores, beside what it does to the rotation."""
    return position.scaling.score_scale if isinstance(position.scaling, Yarn) else 1.0


def read_mixture(reader: ConfigReader, activation: str) -> MoeSpec:
    """Return a mixture whose router chooses groups first."""
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


BRANDS: tuple[Brand, ...] = (
    Brand("DeepseekV3ForCausalLM", ModelKind.DECODER, parse, Decoder, names),
    Brand("DeepseekV32ForCausalLM", ModelKind.DECODER, partial(parse, is_indexed=True), Decoder, names),
)
