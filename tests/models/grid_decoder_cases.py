"""List the tiny decoders that read images of any size, for the comparison with transformers."""

from __future__ import annotations

from tests.models.vision_cases import Case

VOCAB = 120
IMAGE_ID, VIDEO_ID, START_ID, END_ID = 99, 98, 97, 96

_VISION = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "mlp_ratio": 2,
    "rope_parameters": {"rope_type": "axial", "rope_theta": 30.0},
}
# Sections of unequal widths, and a base that turns within the lengths.
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 200,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "mrope_section": [2, 3, 3]},
}
_QWEN2_VL = {
    "vision_config": _VISION,
    "text_config": _TEXT,
    "image_token_id": IMAGE_ID,
    "video_token_id": VIDEO_ID,
    "vision_start_token_id": START_ID,
    "vision_end_token_id": END_ID,
}

CASES: dict[str, Case] = {
    "qwen2-vl": Case("Qwen2VLForConditionalGeneration", _QWEN2_VL),
    "qwen2-vl-tied": Case(
        "Qwen2VLForConditionalGeneration",
        {**_QWEN2_VL, "tie_word_embeddings": True, "vision_config": {**_VISION, "spatial_merge_size": 1}},
    ),
}
