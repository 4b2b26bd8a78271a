"""List tiny encoder-decoders, one for each way that a config changes the maths. Knows no oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

VOCAB = 200
#: Far fewer than the positions, more than any window, block or chunk of the cases.
PROMPT_LEN, ANSWER_LEN = 90, 80
MAX_LEN = 128
#: Of inputs that are features: two frames a position.
NUM_BINS, NUM_FRAMES = 10, 60


@dataclass(frozen=True)
class Case:
    """One architecture with settings that leave no part of its graph idle."""

    architecture: str
    settings: dict[str, object] = field(default_factory=dict)
    seed: int = 5

    @property
    def has_features(self) -> bool:
        return self.architecture.startswith("Whisper")


#: No parity would be shown by an answer of one token, so none ends.
_ENDLESS: dict[str, object] = {
    "decoder_start_token_id": 2,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": None,
    "forced_eos_token_id": None,
    "vocab_size": VOCAB,
}
_SIDES: dict[str, object] = {
    **_ENDLESS,
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 80,
}
_BART = {**_SIDES, "max_position_embeddings": MAX_LEN}
_T5: dict[str, object] = {
    **_ENDLESS,
    "decoder_start_token_id": 0,
    "d_model": 64,
    "d_kv": 12,
    "d_ff": 96,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
}
del _T5["forced_eos_token_id"]

CASES: dict[str, Case] = {
    "whisper": Case(
        "WhisperForConditionalGeneration",
        {
            **_SIDES,
            "num_mel_bins": NUM_BINS,
            "max_source_positions": NUM_FRAMES // 2,
            "max_target_positions": MAX_LEN,
            "begin_suppress_tokens": None,
        },
    ),
    "bart": Case("BartForConditionalGeneration", _BART),
    "bart-scaled": Case("BartForConditionalGeneration", {**_BART, "scale_embedding": True}),
    "mbart": Case("MBartForConditionalGeneration", {**_BART, "activation_function": "relu"}),
    "marian": Case(
        "MarianMTModel", {**_BART, "activation_function": "swish", "scale_embedding": True}, seed=10
    ),
    "pegasus": Case(
        "PegasusForConditionalGeneration",
        {**_BART, "activation_function": "relu", "scale_embedding": True},
    ),
    "umt5": Case("UMT5ForConditionalGeneration", _T5),
    "longt5-local": Case("LongT5ForConditionalGeneration", {**_T5, "local_radius": 10}),
    "longt5-global": Case(
        "LongT5ForConditionalGeneration",
        {
            **_T5,
            "local_radius": 6,
            "global_block_size": 8,
            "encoder_attention_type": "transient-global",
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
    ),
    "led": Case(
        "LEDForConditionalGeneration",
        {
            **_SIDES,
            "attention_window": [8, 16, 4],
            "max_encoder_position_embeddings": MAX_LEN,
            "max_decoder_position_embeddings": ANSWER_LEN,
        },
    ),
    "pegasus-x": Case(
        "PegasusXForConditionalGeneration",
        {**_BART, "num_global_tokens": 5, "block_size": 16, "activation_function": "relu"},
    ),
    "pegasus-x-aligned": Case(
        "PegasusXForConditionalGeneration",
        {**_BART, "num_global_tokens": 3, "block_size": 9, "stagger_local_blocks": False},
    ),
}


def ids(length: int, seed: int) -> list[int]:
    """Token ids that mean nothing to any config."""
    return torch.randint(3, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def frames(seed: int) -> torch.Tensor:
    """Features of one input, `[bins, frames]`."""
    return torch.randn(NUM_BINS, NUM_FRAMES, generator=torch.Generator().manual_seed(seed))
