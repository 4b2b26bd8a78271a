"""Read Qwen3-Next: the gated delta rule, gated attention in every fourth layer, experts. Runs nothing.

The mixer is that of arXiv 2412.06464; the gate on attention is that of arXiv 2505.06708.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cynosure.attention import AttentionSpec, Gate
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import ATTENTION, MLP, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.mixture import expert_names, qwen_halves
from cynosure.models.families.naming import Change, Target, rename
from cynosure.models.gated_delta import GatedDeltaSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_KINDS = ("linear_attention", "full_attention")


def _parse(reader: ConfigReader) -> DecoderSpec:
    reader.expect("hidden_act", ["silu"], "silu")
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=0.25)
    norm = NormSpec(NormKind.RMS_OFFSET, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    attention = SelfAttentionSpec(
        AttentionSpec(heads, mask_of(None), rope, combination=Gate(is_per_channel=True)),
        has_bias,
        has_bias,
        norm,
    )
    mixer = _mixer(reader, norm.eps)
    # Here other numbers are meant than Qwen's other mixtures mean where these keys are absent.
    for key in ("num_experts", "num_experts_per_tok"):
        reader.take(key, int, positive=True)
    halves = qwen_halves(has_shared=True, is_normalised=True)(reader, num_layers)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(
            LayerSpec(attention if kind == "full_attention" else mixer, half, norm)
            for kind, half in zip(_kinds(reader, num_layers), halves, strict=True)
        ),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _mixer(reader: ConfigReader, eps: float) -> GatedDeltaSpec:
    spec = GatedDeltaSpec(
        num_heads=reader.take("linear_num_value_heads", int, positive=True),
        num_key_heads=reader.take("linear_num_key_heads", int, positive=True),
        key_dim=reader.take("linear_key_head_dim", int, positive=True),
        value_dim=reader.take("linear_value_head_dim", int, positive=True),
        conv_width=reader.take("linear_conv_kernel_dim", int, 4, positive=True),
        eps=eps,
    )
    if spec.num_heads % spec.num_key_heads:
        raise UnsupportedConfig(
            f"{reader.where} has linear_num_key_heads = {spec.num_key_heads}, no divisor of "
            f"linear_num_value_heads = {spec.num_heads}. Correct it."
        )
    return spec


def _kinds(reader: ConfigReader, num_layers: int) -> list[str]:
    every = reader.take("full_attention_interval", int, 4, positive=True)
    listed = reader.take_list("layer_types", str)
    if listed is None:
        return [_KINDS[not (layer + 1) % every] for layer in range(num_layers)]
    if len(listed) != num_layers or not set(listed) <= set(_KINDS):
        raise UnsupportedConfig(
            f"{reader.where} lists {len(listed)} layer_types ({', '.join(sorted(set(listed)))}) for "
            f"{num_layers} layers; one of {', '.join(_KINDS)} a layer is supported. Correct the file."
        )
    return list(listed)


def _by_key_head(spec: GatedDeltaSpec, sizes: tuple[int, ...], parts: tuple[int, ...]) -> Change:
    """Return a change that takes some parts of rows that are grouped by key head, each part of all heads."""

    def change(tensor: Tensor) -> Tensor:
        found = tensor.unflatten(0, (spec.num_key_heads, -1)).split(sizes, dim=1)
        return torch.cat([found[part].flatten(0, 1) for part in parts])

    return change


def _mixer_names(spec: GatedDeltaSpec) -> dict[str, Target]:
    """Take the fused projections apart: of each key head its query and key, then what shares them."""
    shared = spec.num_heads // spec.num_key_heads
    sizes = (spec.key_dim, spec.key_dim, shared * spec.value_dim, shared * spec.value_dim)
    return {
        "linear_attn.in_proj_qkvz": {
            "attention.project": _by_key_head(spec, sizes, (0, 1, 2)),
            "attention.gate": _by_key_head(spec, sizes, (3,)),
        },
        "linear_attn.in_proj_ba": {"attention.gates": _by_key_head(spec, (shared, shared), (0, 1))},
        "linear_attn.conv1d": "attention.conv",
        "linear_attn.A_log": "attention.log_rate",
        "linear_attn.dt_bias": "attention.decay_offset",
        "linear_attn.norm": "attention.norm",
        "linear_attn.out_proj": "attention.out",
    }


def _half_of_head(num_heads: int, half: int) -> Change:
    """Return a change that takes the first or the second half of each head's rows."""
    return lambda tensor: tensor.unflatten(0, (num_heads, 2, -1))[:, half].flatten(0, 1)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner: dict[str, Target] = {**ATTENTION, **MLP, **NORMS, **expert_names(spec)}
    for block in (layer.attention for layer in spec.layers):
        if isinstance(block, GatedDeltaSpec):
            inner |= _mixer_names(block)
        elif isinstance(block, SelfAttentionSpec):
            num_heads = block.attention.heads.num_heads
            inner["self_attn.q_proj"] = {
                "attention.q": _half_of_head(num_heads, 0),
                "attention.gate": _half_of_head(num_heads, 1),
            }
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


#: Layers that would guess further tokens are left alone.
_IGNORED = ("mtp.*",)

BRANDS: tuple[Brand, ...] = (
    Brand("Qwen3NextForCausalLM", ModelKind.DECODER, _parse, Decoder, _rename, _IGNORED),
)
