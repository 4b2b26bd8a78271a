"""Read mixtures of experts on Llama's layers: Mixtral, OLMoE, Qwen2-MoE, Qwen3-MoE. Runs nothing.

Mixtral (arXiv 2401.04088), OLMoE (2409.02060), Qwen2-MoE (2407.10671, section 2.2.2), Qwen3-MoE (2505.09388).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cynosure.attention import AttentionSpec
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, FeedForwardSpec, LayerSpec
from cynosure.models.families.llama import (
    ATTENTION,
    MLP,
    NORMS,
    OUTER,
    Windows,
    mask_of,
    read_heads,
    windows_by_type,
)
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.moe import MoeSpec, SoftmaxRouterSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
#: What Mixtral calls the parts of an expert.
_LETTERS = {"w1": "gate", "w3": "up", "w2": "down"}


@dataclass(frozen=True)
class _Biases:
    """Which projections of attention add a bias."""

    qkv: bool
    out: bool


@dataclass(frozen=True)
class _Switches:
    """Where one brand differs: `halves` gives the feed-forward half of each layer."""

    biases: Callable[[ConfigReader], _Biases]
    windows: Callable[[ConfigReader, int], Windows]
    halves: Callable[[ConfigReader, int], tuple[FeedForwardSpec, ...]]
    theta: float = 10_000.0
    eps: float = 1e-6
    has_qk_norm: bool = False
    is_qk_norm_whole: bool = False


def _parser(switches: _Switches) -> Callable[[ConfigReader], DecoderSpec]:
    def parse(reader: ConfigReader) -> DecoderSpec:
        hidden_size = reader.take("hidden_size", int, positive=True)
        num_layers = reader.take("num_hidden_layers", int, positive=True)
        heads = read_heads(reader, hidden_size)
        rope = read_rope(reader, heads.head_dim, theta=switches.theta, share=None)
        norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, switches.eps, positive=True))
        biases = switches.biases(reader)
        windows = switches.windows(reader, num_layers)
        halves = switches.halves(reader, num_layers)
        attention = {
            window: SelfAttentionSpec(
                AttentionSpec(heads, mask_of(window), rope),
                biases.qkv,
                biases.out,
                norm if switches.has_qk_norm else None,
                switches.is_qk_norm_whole,
            )
            for window in windows
        }
        spec = DecoderSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            hidden_size=hidden_size,
            layers=tuple(
                LayerSpec(attention[window], half, norm) for window, half in zip(windows, halves, strict=True)
            ),
            final_norm=norm,
            max_model_len=rope.max_model_len,
            is_head_tied=reader.take("tie_word_embeddings", bool, False),
        )
        reader.finish()
        return spec

    return parse


def _no_windows(reader: ConfigReader, num_layers: int) -> Windows:
    return (None,) * num_layers


def _same_window(reader: ConfigReader, num_layers: int) -> Windows:
    return (reader.take("sliding_window", int, None, positive=True),) * num_layers


def _switched_window(reader: ConfigReader, num_layers: int) -> Windows:
    """Return one window for all layers, where the config switches it on."""
    window = reader.take("sliding_window", int, None)
    is_on = reader.take("use_sliding_window", bool, False)
    # Written by the authors, and read by no graph: every layer has the window, or none.
    reader.ignore("max_window_layers")
    return (_checked_window(reader, window) if is_on else None,) * num_layers


def _lower_windows(reader: ConfigReader, num_layers: int) -> Windows:
    """Return windows in every other layer below `max_window_layers`, unless the layers' kinds are listed."""
    window = reader.take("sliding_window", int, None)
    last = reader.take("max_window_layers", int, 28)
    is_on = reader.take("use_sliding_window", bool, False)
    window = _checked_window(reader, window) if is_on else None
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(None if layer % 2 or layer >= last else window for layer in range(num_layers))


def _checked_window(reader: ConfigReader, window: int | None) -> int | None:
    """Refuse an empty window that is switched on; one that is off is often written as 0."""
    if window is not None and window < 1:
        raise UnsupportedConfig(f"{reader.where} has sliding_window = {window}; it must be > 0. Correct it.")
    return window


def _mixtral_halves(reader: ConfigReader, num_layers: int) -> tuple[FeedForwardSpec, ...]:
    expert = MlpSpec(reader.take("intermediate_size", int, positive=True), _activation(reader))
    num_experts = reader.take("num_local_experts", int, 8, positive=True)
    router = SoftmaxRouterSpec(_num_chosen(reader, num_experts, 2))
    return (MoeSpec(num_experts, router, expert),) * num_layers


def _olmoe_halves(reader: ConfigReader, num_layers: int) -> tuple[FeedForwardSpec, ...]:
    # The published graph would clip behind the norms of queries and keys; no published file asks for it.
    reader.expect("clip_qkv", [None])
    expert = MlpSpec(reader.take("intermediate_size", int, positive=True), _activation(reader))
    num_experts = reader.take("num_experts", int, 64, positive=True)
    chosen = _num_chosen(reader, num_experts, 8)
    router = SoftmaxRouterSpec(chosen, reader.take("norm_topk_prob", bool, False))
    return (MoeSpec(num_experts, router, expert),) * num_layers


def qwen_halves(
    *, has_shared: bool, is_normalised: bool = False
) -> Callable[[ConfigReader, int], tuple[FeedForwardSpec, ...]]:
    """Return what reads the feed-forward half of each layer; `is_normalised` is what an absent key means."""

    def halves(reader: ConfigReader, num_layers: int) -> tuple[FeedForwardSpec, ...]:
        activation = _activation(reader)
        # Two names of one number; transformers writes the first for Qwen3.
        num_experts = reader.take("num_local_experts", int, None, positive=True)
        num_experts = reader.take("num_experts", int, num_experts or 128, positive=True)
        reader.expect("num_local_experts", [num_experts])
        chosen = _num_chosen(reader, num_experts, 8)
        moe = MoeSpec(
            num_experts,
            SoftmaxRouterSpec(chosen, reader.take("norm_topk_prob", bool, is_normalised)),
            MlpSpec(reader.take("moe_intermediate_size", int, positive=True), activation),
            _shared(reader, activation) if has_shared else None,
            is_shared_gated=has_shared,
        )
        dense = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
        every = reader.take("decoder_sparse_step", int, 1, positive=True)
        are_dense = reader.take_list("mlp_only_layers", int) or ()
        return tuple(
            dense if layer in are_dense or (layer + 1) % every else moe for layer in range(num_layers)
        )

    return halves


def _shared(reader: ConfigReader, activation: str) -> MlpSpec:
    return MlpSpec(reader.take("shared_expert_intermediate_size", int, positive=True), activation)


def _activation(reader: ConfigReader) -> str:
    return reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")


def _num_chosen(reader: ConfigReader, num_experts: int, default: int) -> int:
    num_chosen = reader.take("num_experts_per_tok", int, default, positive=True)
    if num_chosen > num_experts:
        raise UnsupportedConfig(
            f"{reader.where} chooses {num_chosen} of {num_experts} experts. Correct num_experts_per_tok."
        )
    return num_chosen


def expert_names(spec: DecoderSpec) -> dict[str, Target]:
    """Return what routers, shared experts and the experts, each with tensors of its own, are called here."""
    sizes = [layer.mlp.num_experts for layer in spec.layers if isinstance(layer.mlp, MoeSpec)]
    names: dict[str, Target] = {
        "mlp.gate": "mlp.router",
        "block_sparse_moe.gate": "mlp.router",
        "mlp.shared_expert_gate": "mlp.shared_gate",
        **{f"mlp.shared_expert.{theirs}": f"mlp.shared.{ours}" for theirs, ours in _PARTS.items()},
    }
    for owner, parts in (("mlp", _PARTS), ("block_sparse_moe", _LETTERS)):
        for expert in range(max(sizes, default=0)):
            for theirs, ours in parts.items():
                names[f"{owner}.experts.{expert}.{theirs}"] = f"mlp.experts.each.{expert}.{ours}"
    return names


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner = {**ATTENTION, **MLP, **NORMS, **expert_names(spec)}
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


def _no_biases(reader: ConfigReader) -> _Biases:
    return _Biases(qkv=False, out=False)


def _qkv_biases(reader: ConfigReader) -> _Biases:
    return _Biases(qkv=reader.take("qkv_bias", bool, True), out=False)


def _stated_biases(reader: ConfigReader) -> _Biases:
    has_bias = reader.take("attention_bias", bool, False)
    return _Biases(has_bias, has_bias)


def _brand(architecture: str, switches: _Switches) -> Brand:
    ignored = ("*.rotary_emb.inv_freq",)
    return Brand(architecture, ModelKind.DECODER, _parser(switches), Decoder, _rename, ignored)


BRANDS: tuple[Brand, ...] = (
    _brand(
        "MixtralForCausalLM",
        _Switches(_no_biases, _same_window, _mixtral_halves, theta=1_000_000.0, eps=1e-5),
    ),
    _brand(
        "OlmoeForCausalLM",
        _Switches(
            _stated_biases, _no_windows, _olmoe_halves, eps=1e-5, has_qk_norm=True, is_qk_norm_whole=True
        ),
    ),
    _brand("Qwen2MoeForCausalLM", _Switches(_qkv_biases, _lower_windows, qwen_halves(has_shared=True))),
    _brand(
        "Qwen3MoeForCausalLM",
        _Switches(_stated_biases, _switched_window, qwen_halves(has_shared=False), has_qk_norm=True),
    ),
)
