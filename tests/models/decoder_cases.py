"""List tiny decoders, one for each way that a config changes the maths. Knows nothing of how they run."""

from __future__ import annotations

from dataclasses import dataclass, field

VOCAB = 199


@dataclass(frozen=True)
class Case:
    """The settings of one checkpoint.

    `pinned` freezes the oracle's rotary frequencies at those for a sequence of that length, where it would
    change them while a sequence grows; ours follow the declared maximum length alone.
    """

    architecture: str
    settings: dict[str, object] = field(default_factory=dict)
    max_model_len: int | None = None
    pinned: int | None = None
    seed: int = 11


def _rope(kind: str = "default", **values: object) -> dict[str, object]:
    return {"rope_parameters": {"rope_theta": 500.0, "rope_type": kind, **values}}


def _longrope(num_frequencies: int, **values: object) -> dict[str, object]:
    short = [1.0 + 0.1 * i for i in range(num_frequencies)]
    long = [2.0 + 0.7 * i for i in range(num_frequencies)]
    return _rope("longrope", short_factor=short, long_factor=long, **values)


_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
_BIASED = {"attention_bias": True, "mlp_bias": True, "head_dim": 24}
_UPPER_WINDOWS = {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1}
_GEMMA = {"head_dim": 24, "query_pre_attn_scalar": 20, "sliding_window": 9}
_LLAMA3 = {"original_max_position_embeddings": 16, "low_freq_factor": 0.5, "high_freq_factor": 2.0}
_PARTIAL = {"partial_rotary_factor": 0.75}  # 12 of 16 channels

CASES: dict[str, Case] = {
    "gpt2": Case(
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCAB,
            "n_embd": 64,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 96,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "llama": Case("LlamaForCausalLM", _SIZES | _BIASED | _rope(), seed=12),
    "llama-tied": Case("LlamaForCausalLM", _SIZES | {"tie_word_embeddings": True}),
    "llama-linear": Case("LlamaForCausalLM", _SIZES | _rope("linear", factor=3.0)),
    "llama-dynamic": Case(
        "LlamaForCausalLM", _SIZES | {"max_position_embeddings": 20} | _rope("dynamic", factor=4.0), pinned=80
    ),
    "llama-yarn": Case(
        "LlamaForCausalLM",
        _SIZES | _rope("yarn", factor=8.0, original_max_position_embeddings=16, beta_fast=4.0),
    ),
    "llama-llama3": Case("LlamaForCausalLM", _SIZES | _rope("llama3", factor=8.0, **_LLAMA3)),
    "llama-longrope": Case(
        "LlamaForCausalLM", _SIZES | _longrope(8, original_max_position_embeddings=16, factor=8.0), pinned=128
    ),
    "mistral": Case("MistralForCausalLM", _SIZES | {"sliding_window": 9} | _rope()),
    "qwen2": Case("Qwen2ForCausalLM", _SIZES | _UPPER_WINDOWS | _rope()),
    "qwen3": Case("Qwen3ForCausalLM", _SIZES | _UPPER_WINDOWS | {"head_dim": 24} | _rope()),
    "gemma2": Case(
        "Gemma2ForCausalLM",
        _SIZES | _GEMMA | {"attn_logit_softcapping": 4.0, "final_logit_softcapping": 3.0} | _rope(),
    ),
    "gemma3": Case(
        "Gemma3ForCausalLM",
        _SIZES
        | _GEMMA
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
            },
        },
    ),
    "phi3": Case("Phi3ForCausalLM", _SIZES | {"sliding_window": 9, "pad_token_id": 0} | _rope(**_PARTIAL)),
    "phi3-long": Case(
        "Phi3ForCausalLM",
        _SIZES | {"pad_token_id": 0, "original_max_position_embeddings": 16} | _longrope(6, **_PARTIAL),
        pinned=128,
    ),
    "phi3-short": Case(
        "Phi3ForCausalLM",
        _SIZES | {"pad_token_id": 0, "original_max_position_embeddings": 100} | _longrope(6, **_PARTIAL),
        max_model_len=90,
        pinned=90,
    ),
    "bloom": Case("BloomForCausalLM", {"vocab_size": VOCAB, "hidden_size": 72, "n_layer": 3, "n_head": 6}),
}
