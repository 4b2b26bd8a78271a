"""List tiny decoders of the newest brands, for each way that a config changes the maths. Runs none."""

from __future__ import annotations

from tests.models.decoder_cases import VOCAB, Case

_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_PLAIN_ROPE = {"rope_theta": 500.0, "rope_type": "default"}
_ROPE = {"rope_parameters": _PLAIN_ROPE}
_HALF_ROPE = {"rope_parameters": {**_PLAIN_ROPE, "partial_rotary_factor": 0.5}}
_LAYER_NORMED = {key: value for key, value in _SIZES.items() if key != "rms_norm_eps"}
_MULTIPLIERS = {
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.6,
    "embedding_multiplier": 3.0,
    "logits_scaling": 1.7,
}
_LLAMA4 = {
    **_SIZES,
    **_ROPE,
    "num_hidden_layers": 3,
    "head_dim": 24,
    "intermediate_size": 40,
    "intermediate_size_mlp": 96,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    # Shorter than the prompt, as is what lies between two steps of the queries' growth.
    "attention_chunk_size": 6,
    "floor_scale": 6,
    "attn_scale": 0.5,
}
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 14,
    "v_head_dim": 10,
}
_GEMMA3N = {
    **_SIZES,
    "num_hidden_layers": 5,
    "head_dim": 24,
    "intermediate_size": [96, 96, 64, 64, 80],
    "activation_sparsity_pattern": [0.7, 0.0, 0.4, 0.0, 0.5],
    "sliding_window": 9,
    "layer_types": [
        *("sliding_attention", "full_attention", "sliding_attention"),
        *("full_attention", "sliding_attention"),
    ],
    "num_kv_shared_layers": 2,
    # Below that of the tokens, so that some are unknown to the layers.
    "vocab_size_per_layer_input": 150,
    "hidden_size_per_layer_input": 12,
    "altup_num_inputs": 3,
    "laurel_rank": 8,
    "final_logit_softcapping": 3.0,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
    },
}

_DEEPSEEK_V32 = {
    **_SIZES,
    **_ROPE,
    **_LATENT,
    "n_routed_experts": 12,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 24,
    "mlp_layer_types": ["dense", "sparse"],
    # Fewer than the prompt has; many heads, so that no two tokens have the same score.
    "index_topk": 9,
    "index_head_dim": 12,
    "index_n_heads": 16,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4.0,
}

_DEEPSEEK_V2 = {
    **_SIZES,
    **_LATENT,
    "n_routed_experts": 12,
    "num_experts_per_tok": 4,
    "n_shared_experts": 2,
    "moe_intermediate_size": 24,
}

CASES: dict[str, Case] = {
    "llama4": Case("Llama4ForCausalLM", {**_LLAMA4, "no_rope_layers": [1, 0, 1], "moe_layers": [0, 1]}),
    "llama4-no-norms": Case(
        "Llama4ForCausalLM",
        {
            **_LLAMA4,
            "use_qk_norm": False,
            "attention_bias": True,
            "no_rope_layer_interval": 2,
            "interleave_moe_layer_step": 2,
            "attn_temperature_tuning": False,
        },
    ),
    "minicpm3": Case(
        "MiniCPM3ForCausalLM",
        {
            **_SIZES,
            **_ROPE,
            **_LATENT,
            "scale_emb": 3.0,
            "scale_depth": 0.8,
            "dim_model_base": 40,
            "tie_word_embeddings": False,
        },
    ),
    "minicpm3-dense-queries": Case(
        "MiniCPM3ForCausalLM",
        {**_SIZES, **_ROPE, **_LATENT, "q_lora_rank": None, "v_head_dim": None, "attention_bias": True},
    ),
    "deepseek-v32": Case("DeepseekV32ForCausalLM", _DEEPSEEK_V32),
    "deepseek-v32-yarn": Case(
        "DeepseekV32ForCausalLM",
        {
            **_DEEPSEEK_V32,
            "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
            "attention_bias": True,
            "mlp_layer_types": None,
            "first_k_dense_replace": 0,
        },
    ),
    "deepseek-v2": Case(
        "DeepseekV2ForCausalLM",
        {
            **_DEEPSEEK_V2,
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 3.0,
            "rope_parameters": {**_YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
        },
    ),
    "deepseek-v2-lite": Case(
        "DeepseekV2ForCausalLM", {**_DEEPSEEK_V2, **_ROPE, "q_lora_rank": None, "first_k_dense_replace": 1}
    ),
    "gemma": Case("GemmaForCausalLM", {**_SIZES, **_ROPE, "head_dim": 24, "hidden_act": "gelu"}),
    "olmo": Case("OlmoForCausalLM", {**_LAYER_NORMED, **_ROPE, "tie_word_embeddings": True}),
    "olmo-clipped": Case("OlmoForCausalLM", {**_LAYER_NORMED, **_ROPE, "clip_qkv": 2.5}),
    "hunyuan": Case(
        "HunYuanDenseV1ForCausalLM",
        {
            **_SIZES,
            "head_dim": 24,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 500.0, "alpha": 9.0, "factor": 1.0},
        },
    ),
    "hunyuan-biases": Case(
        "HunYuanDenseV1ForCausalLM", {**_SIZES, **_ROPE, "head_dim": 24, "attention_bias": True}
    ),
    "llama4-dense": Case(
        "Llama4ForCausalLM", {**_LLAMA4, "moe_layers": [], "attn_temperature_tuning": False}
    ),
    "ministral": Case(
        "MinistralForCausalLM",
        {
            **_SIZES,
            **_ROPE,
            "sliding_window": 9,
            "layer_types": ["sliding_attention", "full_attention"],
            "head_dim": 24,
        },
    ),
    "ministral3": Case(
        "Ministral3ForCausalLM",
        {
            **_SIZES,
            "head_dim": 24,
            "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.4},
        },
    ),
    "ministral3-window": Case(
        "Ministral3ForCausalLM",
        {
            **_SIZES,
            "sliding_window": 9,
            "head_dim": 24,
            "rope_parameters": {**_YARN, "llama_4_scaling_beta": 0.4, "max_position_embeddings": 128},
        },
    ),
    "diffllama": Case("DiffLlamaForCausalLM", {**_SIZES, **_ROPE, "head_dim": 24, "num_attention_heads": 8}),
    "diffllama-biases": Case(
        "DiffLlamaForCausalLM", {**_SIZES, **_ROPE, "num_key_value_heads": 4, "attention_bias": True}
    ),
    "gemma3n": Case("Gemma3nForCausalLM", _GEMMA3N),
    "gemma3n-second-active": Case(
        "Gemma3nForCausalLM",
        {**_GEMMA3N, "altup_active_idx": 1, "altup_correct_scale": False, "num_kv_shared_layers": 0},
    ),
    "arcee": Case("ArceeForCausalLM", {**_SIZES, **_ROPE, "head_dim": 24}),
    "nemotron": Case("NemotronForCausalLM", {**_LAYER_NORMED, **_HALF_ROPE, "head_dim": 24}),
    "nemotron-biases": Case(
        "NemotronForCausalLM", {**_LAYER_NORMED, **_HALF_ROPE, "attention_bias": True, "mlp_bias": True}
    ),
    "cohere": Case("CohereForCausalLM", {**_LAYER_NORMED, **_ROPE, "logit_scale": 0.4}),
    "glm4-moe": Case(
        "Glm4MoeForCausalLM",
        {
            **_SIZES,
            **_HALF_ROPE,
            "head_dim": 24,
            "n_routed_experts": 12,
            "n_group": 4,
            "topk_group": 2,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 24,
            "routed_scaling_factor": 1.7,
            "attention_bias": True,
            "use_qk_norm": True,
        },
    ),
    "glm4-moe-air": Case(
        "Glm4MoeForCausalLM",
        {
            **_SIZES,
            **_HALF_ROPE,
            "n_routed_experts": 6,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
        },
    ),
    "granite-moe": Case(
        "GraniteMoeForCausalLM",
        {
            **_SIZES,
            **_ROPE,
            **_MULTIPLIERS,
            "intermediate_size": 40,
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
        },
    ),
}
