"""List tiny decoders of the brands beyond the first, for each way that a config changes the maths. Runs none."""

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
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_RMS = {"rms_norm_eps": 1e-5}
_ROPE = {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}
_WINDOW = {"sliding_window": 9}
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24}

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
        "Qwen3MoeForCausalLM", {**_LLAMA_LIKE, **_EXPERTS, **_WINDOW, "use_sliding_window": True, "attention_bias": True}
    ),
}
