"""Read RecurrentGemma: RG-LRU, with attention to a window in every third layer. Runs nothing.

Griffin (arXiv 2402.19427), RecurrentGemma (2404.07839).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cynosure.attention import AttentionSpec
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import mask_of, read_heads
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.real_gated import RealGatedSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"embed_tokens": "embed", "final_norm": "norm", "lm_head": "head"}
_INNER: Mapping[str, Target] = {
    "temporal_pre_norm": "attention_norm",
    "channel_pre_norm": "mlp_norm",
    "temporal_block.q_proj": "attention.q",
    "temporal_block.k_proj": "attention.k",
    "temporal_block.v_proj": "attention.v",
    "temporal_block.o_proj": "attention.o",
    "temporal_block.linear_x": "attention.project",
    "temporal_block.linear_y": "attention.gate",
    "temporal_block.linear_out": "attention.out",
    "temporal_block.conv_1d": "attention.conv",
    "temporal_block.rg_lru.recurrent_param": "attention.decay",
    "temporal_block.rg_lru.input_gate_weight": "attention.input_gate.weight",
    "temporal_block.rg_lru.input_gate_bias": "attention.input_gate.bias",
    "temporal_block.rg_lru.recurrent_gate_weight": "attention.decay_gate.weight",
    "temporal_block.rg_lru.recurrent_gate_bias": "attention.decay_gate.bias",
    "mlp_block.gate_proj": "mlp.gate",
    "mlp_block.up_proj": "mlp.up",
    "mlp_block.down_proj": "mlp.down",
}
_KINDS = ("recurrent", "attention")
#: Nothing in the graph bounds a sequence, and its config names no length; far beyond what it was trained on.
LONGEST = 1 << 17


def _parse(reader: ConfigReader) -> DecoderSpec:
    # Of the first weights alone.
    reader.ignore("w_init_variance_scale", "final_w_init_variance_scale")
    hidden_size = reader.take("hidden_size", int, 2560, positive=True)
    num_layers = reader.take("num_hidden_layers", int, 26, positive=True)
    heads = read_heads(reader, hidden_size)
    # The published graph derives it, whatever is written.
    reader.expect("head_dim", [None, hidden_size // heads.num_heads])
    reader.expect("embeddings_scale_by_sqrt_dim", [True], True)
    rope = read_rope(reader, heads.head_dim, share=0.5, max_positions=LONGEST)
    window = reader.take("attention_window_size", int, None, positive=True)
    window = reader.take("sliding_window", int, 2048 if window is None else window, positive=True)
    reader.expect("attention_window_size", [None, window])
    norm = NormSpec(NormKind.RMS_OFFSET, reader.take("rms_norm_eps", float, 1e-6, positive=True))
    attention = SelfAttentionSpec(
        AttentionSpec(heads, mask_of(window), rope),
        has_qkv_bias=reader.take("attention_bias", bool, False),
        has_out_bias=True,
    )
    activation = reader.expect("hidden_activation", ACTIVATIONS.keys(), "gelu_pytorch_tanh")
    width = reader.take("lru_width", int, hidden_size, positive=True)
    if width % heads.num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has lru_width = {width}, no multiple of num_attention_heads = "
            f"{heads.num_heads}, by which its gates are blocked. Correct it."
        )
    conv_width = reader.take("conv1d_width", int, 4, positive=True)
    mixer = RealGatedSpec(width, heads.num_heads, conv_width, activation)
    # The config counts what gate and up give together.
    inner = reader.take("intermediate_size", int, 3 * hidden_size, positive=True) // 2
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 256000, positive=True),
        hidden_size=hidden_size,
        layers=tuple(
            LayerSpec(
                mixer if kind == "recurrent" else attention, MlpSpec(inner, activation, has_bias=True), norm
            )
            for kind in _kinds(reader, num_layers)
        ),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        # The published graph keeps the factor in bfloat16, whatever it computes in.
        embedding_multiplier=float(torch.tensor(hidden_size**0.5, dtype=torch.bfloat16)),
        logit_softcap=reader.take("logits_soft_cap", float, 30.0, positive=True),
    )
    reader.finish()
    return spec


def _kinds(reader: ConfigReader, num_layers: int) -> list[str]:
    """Return what each layer mixes with: a pattern that repeats, which some files spell out besides."""
    pattern = reader.take_list("block_types", str) or ("recurrent", "recurrent", "attention")
    if not set(pattern) <= set(_KINDS):
        raise UnsupportedConfig(
            f"{reader.where} has block_types = {list(pattern)}; only {', '.join(_KINDS)} are supported. "
            "Report the checkpoint."
        )
    kinds = [pattern[layer % len(pattern)] for layer in range(num_layers)]
    written = [{"recurrent": "linear_attention", "attention": "sliding_attention"}[kind] for kind in kinds]
    for key in ("layer_types", "layers_block_type", "_block_types"):
        found = reader.take_list(key, str)
        if found is not None and list(found) not in (kinds, written, list(pattern)):
            raise UnsupportedConfig(
                f"{reader.where} has {key} = {list(found)}, which is not what block_types says. Correct one."
            )
    return kinds


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (Brand("RecurrentGemmaForCausalLM", ModelKind.DECODER, _parse, Decoder, _rename),)
