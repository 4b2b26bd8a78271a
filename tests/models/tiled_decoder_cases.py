"""List the tiny decoders that attend to tiles of images, for the comparison with transformers."""

from __future__ import annotations

from tests.models.vision_cases import Case

VOCAB = 112
IMAGE_ID = 115

# Four patches of 4 a tile, and three tokens that fill it up; two of three grids leave tiles empty.
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_global_layers": 2,
    "attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
    "max_num_tiles": 3,
    "supported_aspect_ratios": [[1, 1], [1, 3], [2, 1]],
    "intermediate_layers_indices": [0, 2],
    "vision_output_dim": 96,
    "norm_eps": 1e-3,
}
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 200,
    "cross_attention_layers": [1, 3],
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    "pad_token_id": 0,
}
_MLLAMA = {"vision_config": _VISION, "text_config": _TEXT, "image_token_index": IMAGE_ID}

CASES: dict[str, Case] = {
    "mllama": Case("MllamaForConditionalGeneration", _MLLAMA),
    # At both ends of the stack, and side by side; nothing is read of layers between.
    "mllama-ends": Case(
        "MllamaForConditionalGeneration",
        {
            **_MLLAMA,
            "text_config": {**_TEXT, "cross_attention_layers": [0, 1, 4]},
            "vision_config": {**_VISION, "intermediate_layers_indices": [1], "vision_output_dim": 64},
        },
    ),
}
