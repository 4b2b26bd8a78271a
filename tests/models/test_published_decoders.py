"""Configs in the form in which files of the newest decoders are published are read."""

from __future__ import annotations

import pytest

from cynosure.attention.positions import LongRope, Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.differential_attention import DifferentialSpec
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttentionSpec
from tests.models.published_forms import parsed


def test_minicpm3() -> None:
    factors = [1.0 + 0.01 * i for i in range(16)]
    spec = parsed(
        "MiniCPM3ForCausalLM",
        {
            "attention_bias": False,
            "auto_map": {"AutoConfig": "configuration_minicpm.MiniCPM3Config"},
            "bos_token_id": 1,
            "dim_model_base": 256,
            "eos_token_id": [2, 73440],
            "hidden_size": 2560,
            "intermediate_size": 6400,
            "kv_lora_rank": 256,
            "max_position_embeddings": 32768,
            "model_type": "minicpm3",
            "num_attention_heads": 40,
            "num_hidden_layers": 62,
            "num_key_value_heads": 40,
            "q_lora_rank": 768,
            "qk_nope_head_dim": 64,
            "qk_rope_head_dim": 32,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "long_factor": factors,
                "original_max_position_embeddings": 32768,
                "short_factor": factors,
                "type": "longrope",
            },
            "scale_depth": 1.4,
            "scale_emb": 12,
            "vocab_size": 73448,
        },
    )
    attention = spec.layers[0].attention
    assert isinstance(attention, MlaSpec)
    assert attention.widths.v_head_dim == 64
    assert isinstance(attention.position.scaling, LongRope)
    assert attention.position.scaling.attention_scaling == 1.0
    assert (spec.logit_multiplier, spec.embedding_multiplier, spec.is_head_tied) == (0.1, 12.0, True)
    assert spec.layers[0].residual_multiplier == pytest.approx(1.4 / 62**0.5)


def test_diffllama() -> None:
    spec = parsed(
        "DiffLlamaForCausalLM",
        {
            "attention_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": 64,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "lambda_std_dev": 0.1,
            "max_position_embeddings": 2048,
            "model_type": "diffllama",
            "num_attention_heads": 16,
            "num_hidden_layers": 12,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "vocab_size": 65024,
        },
    )
    attention = spec.layers[0].attention
    assert isinstance(attention, DifferentialSpec)
    assert (attention.attention.heads.head_dim, attention.attention.heads.v_head_dim) == (64, 128)


def test_command_r_and_its_larger_kin() -> None:
    command_r = {
        "attention_bias": False,
        "bos_token_id": 5,
        "eos_token_id": 255001,
        "hidden_size": 8192,
        "intermediate_size": 22528,
        "layer_norm_eps": 1e-05,
        "logit_scale": 0.0625,
        "max_position_embeddings": 8192,
        "model_max_length": 131072,
        "model_type": "cohere",
        "num_attention_heads": 64,
        "num_hidden_layers": 40,
        "num_key_value_heads": 64,
        "pad_token_id": 0,
        "rope_theta": 8000000.0,
        "use_qk_norm": False,
        "vocab_size": 256000,
    }
    spec = parsed("CohereForCausalLM", command_r)
    assert (spec.logit_multiplier, spec.is_head_tied, spec.layers[0].is_parallel) == (0.0625, True, True)
    with pytest.raises(UnsupportedConfig, match="use_qk_norm"):
        parsed("CohereForCausalLM", {**command_r, "use_qk_norm": True})


def test_gemma3n_e2b_among_images_and_sounds() -> None:
    text = {
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 20,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_lr_multiplier": 1.0,
        "altup_num_inputs": 4,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2048,
        "hidden_size_per_layer_input": 256,
        "intermediate_size": [8192] * 30,
        "laurel_rank": 64,
        "layer_types": ["full_attention" if layer % 5 == 4 else "sliding_attention" for layer in range(30)],
        "max_position_embeddings": 32768,
        "model_type": "gemma3n_text",
        "num_attention_heads": 8,
        "num_hidden_layers": 30,
        "num_key_value_heads": 2,
        "num_kv_shared_layers": 10,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "sliding_window": 512,
        "vocab_size": 262400,
        "vocab_size_per_layer_input": 262144,
    }
    spec = parsed(
        "Gemma3nForConditionalGeneration",
        {
            "audio_config": {"model_type": "gemma3n_audio"},
            "audio_soft_tokens_per_image": 188,
            "audio_token_id": 262273,
            "boa_token_id": 256000,
            "boi_token_id": 255999,
            "eoa_token_id": 262272,
            "eoi_token_id": 262144,
            "eos_token_id": [1, 106],
            "hidden_act": None,
            "image_token_id": 262145,
            "model_type": "gemma3n",
            "text_config": text,
            "vision_config": {"model_type": "gemma3n_vision"},
            "vision_soft_tokens_per_image": 256,
        },
    )
    shared = [
        layer.attention.source for layer in spec.layers if isinstance(layer.attention, SharedAttentionSpec)
    ]
    assert shared == [18, 18, 18, 18, 19] * 2
    assert spec.is_head_tied


def test_gemma_says_gelu_and_means_its_approximation() -> None:
    gemma = {
        "attention_bias": False,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "head_dim": 256,
        "hidden_act": "gelu",
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "max_position_embeddings": 8192,
        "model_type": "gemma",
        "num_attention_heads": 8,
        "num_hidden_layers": 18,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "vocab_size": 256000,
    }
    spec = parsed("GemmaForCausalLM", gemma)
    mlp = spec.layers[0].mlp
    assert isinstance(mlp, MlpSpec)
    assert (mlp.activation, spec.is_head_tied) == ("gelu_pytorch_tanh", True)
    assert parsed("GemmaForCausalLM", {**gemma, "hidden_activation": None}) == spec


def test_hunyuan_stretches_its_base() -> None:
    spec = parsed(
        "HunYuanDenseV1ForCausalLM",
        {
            "add_classification_head": False,
            "attention_bias": False,
            "attention_head_dim": 128,
            "bos_token_id": 1,
            "cla_share_factor": 2,
            "class_num": 0,
            "dense_list": [4096, 0],
            "eod_token_id": 127967,
            "eos_token_id": 127960,
            "head_dim": 128,
            "hidden_size": 4096,
            "im_end_id": 5,
            "im_newline_id": 11,
            "im_start_id": 4,
            "intermediate_size": 14336,
            "mask_init_id": 12,
            "max_position_embeddings": 32768,
            "mlp_bias": False,
            "model_type": "hunyuan_v1_dense",
            "norm_type": "rms",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "org_vocab_size": 128167,
            "pool_type": "last",
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "alpha": 1000.0,
                "beta_fast": 32,
                "beta_slow": 1,
                "factor": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "type": "dynamic",
            },
            "rope_theta": 10000.0,
            "sep_token_id": 127962,
            "text_end_id": 7,
            "text_start_id": 6,
            "tie_word_embeddings": True,
            "use_cla": False,
            "use_qk_norm": True,
            "use_rotary_pos_emb": True,
            "vocab_size": 128167,
        },
    )
    attention = spec.layers[0].attention
    assert isinstance(attention, SelfAttentionSpec)
    assert isinstance(attention.attention.position, Rope)
    assert attention.attention.position.theta == pytest.approx(1e4 * 1000 ** (128 / 126))
