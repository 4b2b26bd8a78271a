"""List the tiny decoders that read images, for the comparison with transformers. Compares nothing itself."""

from __future__ import annotations

from tests.models.vision_cases import Case

VOCAB = 120
IMAGE_ID = 99

# Four patches of 4 a side; the state of the last layer is not read.
_VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
    "projection_dim": 32,
}
_TEXT = {
    "model_type": "llama",
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 200,
}
_LLAVA = {
    "vision_config": _VISION,
    "text_config": _TEXT,
    "image_token_index": IMAGE_ID,
    "image_seq_length": 4,
}

CASES: dict[str, Case] = {
    "llava": Case("LlavaForConditionalGeneration", _LLAVA),
    "llava-full": Case(
        "LlavaForConditionalGeneration",
        {
            **_LLAVA,
            "vision_feature_select_strategy": "full",
            "image_seq_length": 5,
            "vision_feature_layer": 1,
            "multimodal_projector_bias": False,
            "projector_hidden_act": "gelu_pytorch_tanh",
        },
    ),
    "llava-mistral": Case(
        "LlavaForConditionalGeneration",
        {
            **_LLAVA,
            "text_config": {**_TEXT, "model_type": "mistral", "sliding_window": 9},
            "vision_feature_layer": -1,
        },
    ),
    "llava-qwen2": Case(
        "LlavaForConditionalGeneration", {**_LLAVA, "text_config": {**_TEXT, "model_type": "qwen2"}}
    ),
}
