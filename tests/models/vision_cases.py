"""List the tiny encoders of images that are compared with transformers. Knows nothing of the comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

VOCAB = 120
#: Ids of ordinary tokens lie below this one, which ends a text.
END_ID = 119
TEXT_LEN = 20


@dataclass(frozen=True)
class Case:
    """One architecture with settings that leave no part of its graph idle."""

    architecture: str
    settings: dict[str, object] = field(default_factory=dict)
    seed: int = 0


# 18 pixels hold four patches of 4 a side, and two that are in none.
_VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 18,
    "patch_size": 4,
}
_TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": TEXT_LEN,
}
_CLIP_TEXT = {**_TEXT, "projection_dim": 40, "eos_token_id": END_ID}
_CLIP = {
    "vision_config": {**_VISION, "projection_dim": 40},
    "text_config": _CLIP_TEXT,
    "projection_dim": 40,
}
_OLD_CLIP = {**_CLIP, "text_config": {**_TEXT, "projection_dim": 40, "eos_token_id": 2}}
_SIGLIP = {"vision_config": _VISION, "text_config": {**_TEXT, "projection_size": 64}}

CASES: dict[str, Case] = {
    "vit": Case("ViTModel", _VISION),
    "vit-one-channel": Case("ViTModel", {**_VISION, "num_channels": 1, "hidden_act": "relu"}),
    "vit-classifier": Case("ViTForImageClassification", {**_VISION, "num_labels": 5}),
    "clip": Case("CLIPModel", _CLIP),
    "clip-old-end": Case("CLIPModel", _OLD_CLIP),
    "clip-vision": Case("CLIPVisionModel", _VISION),
    "clip-vision-projected": Case("CLIPVisionModelWithProjection", {**_VISION, "projection_dim": 40}),
    "clip-text-projected": Case("CLIPTextModelWithProjection", _CLIP_TEXT),
    "siglip": Case("SiglipModel", _SIGLIP),
    "siglip-vision": Case("SiglipVisionModel", _VISION),
    "siglip-vision-headless": Case("SiglipVisionModel", {**_VISION, "vision_use_head": False}),
}
