"""Configs in the form in which files of the newest mixtures of experts are published are read."""

from __future__ import annotations

import math

import pytest

from cynosure.attention.masks import Causal, Chunk
from cynosure.attention.positions import NoPosition, Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.moe import MoeSpec
from cynosure.models.self_attention import SelfAttentionSpec
from tests.models.published_forms import parsed

SCOUT = {
    "_attn_implementation_autoset": True,
    "attention_bias": False,
    "attention_chunk_size": 8192,
    "attn_scale": 0.1,
    "attn_temperature_tuning": 4,
    "bos_token_id": 200000,
    "eos_token_id": [200001, 200007, 200008],
    "floor_scale": 8192,
    "for_llm_compressor": False,
    "head_dim": 128,
    "hidden_size": 5120,
    "interleave_moe_layer_step": 1,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "max_position_embeddings": 10485760,
    "model_type": "llama4_text",
    "no_rope_layers": [],
    "num_attention_heads": 40,
    "num_experts_per_tok": 1,
    "num_hidden_layers": 48,
    "num_key_value_heads": 8,
    "num_local_experts": 16,
    "output_router_logits": False,
    "pad_token_id": 200018,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 16.0,
        "high_freq_factor": 1.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "router_aux_loss_coef": 0.001,
    "router_jitter_noise": 0.0,
    "use_qk_norm": True,
    "vocab_size": 202048,
}


def test_llama4_scout() -> None:
    spec = parsed("Llama4ForCausalLM", SCOUT)
    blocks = [layer.attention for layer in spec.layers]
    for index, block in enumerate(blocks):
        assert isinstance(block, SelfAttentionSpec)
        is_last_of_four = index % 4 == 3
        attention = block.attention
        assert isinstance(attention.position, NoPosition if is_last_of_four else Rope)
        assert attention.mask == (Causal() if is_last_of_four else Causal() & Chunk(8192))
        assert (block.query_growth is None) == (block.qk_norm is not None) == (not is_last_of_four)
    assert all(isinstance(layer.mlp, MoeSpec) for layer in spec.layers)
    assert len(spec.full_layers) == 12


def test_llama4_maverick_has_a_mixture_in_every_other_layer() -> None:
    maverick = {"interleave_moe_layer_step": 2, "num_local_experts": 128, "use_qk_norm": False}
    spec = parsed("Llama4ForCausalLM", {**SCOUT, **maverick, "rope_scaling": None})
    assert [isinstance(layer.mlp, MoeSpec) for layer in spec.layers[:4]] == [False, True, False, True]


V32 = {
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "ep_size": 1,
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v32",
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "v_head_dim": 128,
    "vocab_size": 129280,
}


def test_deepseek_v32() -> None:
    spec = parsed("DeepseekV32ForCausalLM", V32)
    attention = spec.layers[0].attention
    assert isinstance(attention, MlaSpec)
    assert attention.indexer is not None
    assert (attention.indexer.num_chosen, attention.indexer.num_heads) == (2048, 64)
    assert attention.position.is_interleaved
    assert not attention.indexer.position.is_interleaved
    assert [isinstance(layer.mlp, MoeSpec) for layer in spec.layers[:4]] == [False, False, False, True]


def test_eight_bit_floats_are_refused_by_name() -> None:
    codes = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    with pytest.raises(UnsupportedConfig, match="quantization_config"):
        parsed("DeepseekV32ForCausalLM", {**V32, "quantization_config": codes})


def test_deepseek_v2_lite() -> None:
    spec = parsed(
        "DeepseekV2ForCausalLM",
        {
            "attention_bias": False,
            "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV2Config"},
            "aux_loss_alpha": 0.001,
            "bos_token_id": 100000,
            "eos_token_id": 100001,
            "first_k_dense_replace": 1,
            "hidden_size": 2048,
            "intermediate_size": 10944,
            "kv_lora_rank": 512,
            "max_position_embeddings": 163840,
            "model_type": "deepseek_v2",
            "moe_intermediate_size": 1408,
            "moe_layer_freq": 1,
            "n_group": 1,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
            "num_attention_heads": 16,
            "num_experts_per_tok": 6,
            "num_hidden_layers": 27,
            "num_key_value_heads": 16,
            "pretraining_tp": 1,
            "q_lora_rank": None,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {
                "beta_fast": 32,
                "beta_slow": 1,
                "factor": 40,
                "mscale": 0.707,
                "mscale_all_dim": 0.707,
                "original_max_position_embeddings": 4096,
                "type": "yarn",
            },
            "rope_theta": 10000,
            "routed_scaling_factor": 1.0,
            "scoring_func": "softmax",
            "seq_aux": True,
            "tie_word_embeddings": False,
            "topk_group": 1,
            "topk_method": "greedy",
            "v_head_dim": 128,
            "vocab_size": 102400,
        },
    )
    assert [isinstance(layer.mlp, MoeSpec) for layer in spec.layers[:3]] == [False, True, True]
    attention = spec.layers[0].attention
    assert isinstance(attention, MlaSpec)
    assert attention.scale == pytest.approx(192**-0.5 * (0.1 * 0.707 * math.log(40) + 1) ** 2)
