"""List tiny decoders with states, for each way that a config changes the maths. Runs none."""

from __future__ import annotations

from dataclasses import replace

from tests.models.decoder_cases import VOCAB, Case

_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2}
_MAMBA2 = {
    **_SIZES,
    "num_heads": 4,
    "head_dim": 32,
    "state_size": 8,
    "n_groups": 2,
    "chunk_size": 16,
}
_BAMBA = {
    **_SIZES,
    **_ATTENTION,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "attn_layer_indices": [1],
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"},
}
_QWEN3_NEXT = {
    **_SIZES,
    **_ATTENTION,
    "intermediate_size": 96,
    "head_dim": 24,
    "max_position_embeddings": 256,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 12,
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
    "rope_parameters": {"rope_theta": 500.0, "rope_type": "default", "partial_rotary_factor": 0.5},
}
_RECURRENT_GEMMA = {
    **_SIZES,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "intermediate_size": 192,
    "attention_window_size": 9,
    "lru_width": 96,
    "block_types": ["recurrent", "attention"],
    "rope_parameters": {"rope_theta": 500.0, "rope_type": "default", "partial_rotary_factor": 0.5},
}

_CASES: dict[str, Case] = {
    "mamba2": Case("Mamba2ForCausalLM", _MAMBA2),
    "mamba2-one-group": Case("Mamba2ForCausalLM", {**_MAMBA2, "n_groups": 1, "conv_kernel": 2}),
    "mamba2-biases": Case(
        "Mamba2ForCausalLM",
        {**_MAMBA2, "use_bias": True, "use_conv_bias": False, "tie_word_embeddings": True},
    ),
    "mamba2-limits": Case(
        "Mamba2ForCausalLM", {**_MAMBA2, "time_step_limit": [0.3, 0.9], "residual_in_fp32": False}
    ),
    "bamba": Case("BambaForCausalLM", _BAMBA),
    "bamba-biases": Case(
        "BambaForCausalLM",
        {
            **_BAMBA,
            "attn_layer_indices": [0, 2],
            "attention_bias": True,
            "mlp_bias": True,
            "mamba_d_head": "auto",
        },
    ),
    "qwen3-next": Case("Qwen3NextForCausalLM", _QWEN3_NEXT),
    "qwen3-next-dense": Case(
        "Qwen3NextForCausalLM",
        {**_QWEN3_NEXT, "mlp_only_layers": [1], "norm_topk_prob": False, "attention_bias": True},
    ),
    "recurrent-gemma": Case("RecurrentGemmaForCausalLM", _RECURRENT_GEMMA),
    "recurrent-gemma-biases": Case(
        "RecurrentGemmaForCausalLM",
        {**_RECURRENT_GEMMA, "attention_bias": True, "lru_width": None, "logits_soft_cap": 2.0},
    ),
}

#: Nothing in these graphs bounds a sequence; a short one keeps the books of the tests short.
CASES = {name: replace(case, max_model_len=256) for name, case in _CASES.items()}
