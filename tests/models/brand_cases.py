"""List tiny decoders of the later brands, for each way that a config changes the maths. Runs none."""

from __future__ import annotations

from tests.models import newer_cases
from tests.models.decoder_cases import VOCAB, Case

_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_EQUAL_HEADS = {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}
_RMS = {"rms_norm_eps": 1e-5}
_ROPE = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}
_WINDOW = {"sliding_window": 9}
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24}

_HALF_ROPE = {"rope_theta": 500.0, "rope_type": "default", "partial_rotary_factor": 0.5}
_FALCON: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
_BIGCODE: dict[str, object] = {
    "vocab_size": VOCAB,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 96,
}

_OPT: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
}

_LLAMA_LIKE = {**_SIZES, **_RMS, **_ROPE}

CASES: dict[str, Case] = {
    "mixtral": Case(
        "MixtralForCausalLM",
        {**_LLAMA_LIKE, **_WINDOW, "num_local_experts": 6, "num_experts_per_tok": 3, "head_dim": 24},
    ),
    "qwen2-moe": Case(
        "Qwen2MoeForCausalLM",
        {
            **_LLAMA_LIKE,
            **_EXPERTS,
            **_WINDOW,
            "use_sliding_window": True,
            "num_hidden_layers": 3,
            "max_window_layers": 1,
            "mlp_only_layers": [1],
            "shared_expert_intermediate_size": 40,
        },
    ),
    "qwen3-moe": Case(
        "Qwen3MoeForCausalLM",
        {**_LLAMA_LIKE, **_EXPERTS, "head_dim": 24, "norm_topk_prob": True, "decoder_sparse_step": 2},
    ),
    "qwen3-moe-window": Case(
        "Qwen3MoeForCausalLM",
        {**_LLAMA_LIKE, **_EXPERTS, **_WINDOW, "use_sliding_window": True, "attention_bias": True},
    ),
    "olmoe": Case(
        "OlmoeForCausalLM",
        {**_LLAMA_LIKE, "intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 3},
    ),
    "olmoe-normalised": Case(
        "OlmoeForCausalLM",
        {
            **_LLAMA_LIKE,
            "intermediate_size": 24,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
            "attention_bias": True,
        },
    ),
    "olmo2": Case("Olmo2ForCausalLM", _LLAMA_LIKE),
    "olmo3": Case(
        "Olmo3ForCausalLM",
        {
            **_SIZES,
            **_RMS,
            **_WINDOW,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 500.0,
                    "factor": 8.0,
                    "original_max_position_embeddings": 16,
                    "beta_fast": 4.0,
                },
            },
        },
    ),
    "smollm3": Case(
        "SmolLM3ForCausalLM",
        {
            **_LLAMA_LIKE,
            **_WINDOW,
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "no_rope_layers": [1, 0, 0],
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "mlp_bias": True,
            "attention_bias": True,
        },
    ),
    "smollm3-nope": Case("SmolLM3ForCausalLM", {**_LLAMA_LIKE, "no_rope_layer_interval": 2}),
    "granite": Case(
        "GraniteForCausalLM",
        {
            **_LLAMA_LIKE,
            "attention_multiplier": 0.3,
            "residual_multiplier": 0.6,
            "embedding_multiplier": 3.0,
            "logits_scaling": 1.7,
        },
    ),
    "starcoder2": Case("Starcoder2ForCausalLM", {**_SIZES, **_ROPE, **_WINDOW, "tie_word_embeddings": False}),
    "gpt-neox": Case(
        "GPTNeoXForCausalLM",
        {
            **_EQUAL_HEADS,
            "hidden_act": "gelu_fast",
            "rope_parameters": _HALF_ROPE,
        },
    ),
    "gpt-neox-in-turn": Case("GPTNeoXForCausalLM", {**_EQUAL_HEADS, **_ROPE, "use_parallel_residual": False}),
    "falcon-7b": Case("FalconForCausalLM", {**_FALCON, **_ROPE}),
    "falcon-40b": Case(
        "FalconForCausalLM", {**_FALCON, **_ROPE, "new_decoder_architecture": True, "num_kv_heads": 2}
    ),
    "falcon-11b": Case(
        "FalconForCausalLM",
        {
            **_FALCON,
            **_ROPE,
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "ffn_hidden_size": 96,
        },
    ),
    "falcon-in-turn": Case(
        "FalconForCausalLM", {**_FALCON, **_ROPE, "multi_query": False, "parallel_attn": False, "bias": True}
    ),
    "cohere2": Case(
        "Cohere2ForCausalLM",
        {
            **_SIZES,
            **_ROPE,
            **_WINDOW,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "logit_scale": 0.4,
        },
    ),
    "glm": Case("GlmForCausalLM", {**_LLAMA_LIKE, "head_dim": 24, "rope_parameters": _HALF_ROPE}),
    "glm4": Case("Glm4ForCausalLM", {**_LLAMA_LIKE, "head_dim": 24, "rope_parameters": _HALF_ROPE}),
    "gpt-bigcode": Case("GPTBigCodeForCausalLM", _BIGCODE),
    "gpt-bigcode-many": Case("GPTBigCodeForCausalLM", {**_BIGCODE, "multi_query": False, "n_inner": 96}),
    "mpt": Case("MptForCausalLM", {"vocab_size": VOCAB, "d_model": 72, "n_layers": 2, "n_heads": 6}),
    "mpt-clipped": Case(
        "MptForCausalLM",
        {
            "vocab_size": VOCAB,
            "d_model": 64,
            "n_layers": 2,
            "n_heads": 4,
            "attn_config": {"clip_qkv": 1.0, "softmax_scale": 0.8},
        },
    ),
    "exaone4": Case(
        "Exaone4ForCausalLM",
        {**_LLAMA_LIKE, **_WINDOW, "num_hidden_layers": 3, "sliding_window_pattern": 2},
    ),
    "exaone4-no-windows": Case(
        "Exaone4ForCausalLM",
        {**_LLAMA_LIKE, "sliding_window": None, "layer_types": ["full_attention"] * 2},
    ),
    "ernie": Case("Ernie4_5ForCausalLM", {**_LLAMA_LIKE, "head_dim": 24}),
    "ernie-biases": Case(
        "Ernie4_5ForCausalLM",
        {**_LLAMA_LIKE, "head_dim": 24, "use_bias": True, "tie_word_embeddings": False},
    ),
    "helium": Case("HeliumForCausalLM", {**_LLAMA_LIKE, "head_dim": 16, "rms_norm_eps": 1e-8}),
    "helium-biases": Case(
        "HeliumForCausalLM", {**_LLAMA_LIKE, "head_dim": 16, "attention_bias": True, "mlp_bias": True}
    ),
    "seed-oss": Case("SeedOssForCausalLM", {**_LLAMA_LIKE, "head_dim": 24, "rms_norm_eps": 1e-6}),
    "seed-oss-biases": Case(
        "SeedOssForCausalLM",
        {
            **_LLAMA_LIKE,
            "head_dim": 24,
            "attention_bias": False,
            "attention_out_bias": True,
            "mlp_bias": True,
        },
    ),
    "stablelm": Case("StableLmForCausalLM", {**_SIZES, "rope_parameters": _HALF_ROPE, "use_qkv_bias": True}),
    "stablelm-parallel": Case("StableLmForCausalLM", {**_SIZES, **_ROPE, "use_parallel_residual": True}),
    "gptj": Case(
        "GPTJForCausalLM",
        {
            "vocab_size": VOCAB,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 96,
            "rotary_dim": 10,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    ),
    "opt": Case("OPTForCausalLM", _OPT),
    "opt-no-biases": Case("OPTForCausalLM", {**_OPT, "enable_bias": False, "tie_word_embeddings": False}),
    "phi": Case("PhiForCausalLM", {**_SIZES, "rope_parameters": _HALF_ROPE}),
    **newer_cases.CASES,
}
