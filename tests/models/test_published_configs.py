"""Configs in the form in which files are published are read: what they leave out, and what they add."""

from __future__ import annotations

import pytest

from cynosure.attention.masks import Window
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_spec import EncoderSpec
from cynosure.models.grid_vision_spec import GridDecoderSpec
from cynosure.models.image_decoder_spec import ImageDecoderSpec
from cynosure.models.load import brand_of
from cynosure.models.tiled_vision_spec import TiledDecoderSpec
from cynosure.models.vision_spec import ImageTextSpec, TextPooling, VisionSpec

#: What the first files hold of every config, be it of a part.
_EVERYTHING = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "bos_token_id": 0,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "diversity_penalty": 0.0,
    "dropout": 0.0,
    "early_stopping": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "length_penalty": 1.0,
    "num_beams": 1,
    "pruned_heads": {},
    "return_dict": True,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "top_k": 50,
    "torch_dtype": None,
    "use_bfloat16": False,
}


def parsed(architecture: str, config: dict[str, object]) -> object:
    return brand_of(architecture).parse(ConfigReader({"architectures": [architecture], **config}))


def test_vit() -> None:
    spec = parsed(
        "ViTForImageClassification",
        {
            "attention_probs_dropout_prob": 0.0,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "hidden_size": 768,
            "id2label": {str(i): f"class {i}" for i in range(1000)},
            "image_size": 224,
            "initializer_range": 0.02,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-12,
            "model_type": "vit",
            "num_attention_heads": 12,
            "num_channels": 3,
            "num_hidden_layers": 12,
            "patch_size": 16,
            "qkv_bias": True,
        },
    )
    assert isinstance(spec, VisionSpec)
    assert spec.head is not None
    assert (spec.head.num_outputs, spec.patches.num_tokens) == (1000, 197)


def test_clip() -> None:
    text = {"eos_token_id": 2, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    vision = {"hidden_size": 768, "patch_size": 32, "image_size": 224, "intermediate_size": 3072}
    spec = parsed(
        "CLIPModel",
        {
            "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592,
            "model_type": "clip",
            "projection_dim": 512,
            "text_config": {**_EVERYTHING, **text, "model_type": "clip_text_model", "vocab_size": 49408},
            "text_config_dict": None,
            "vision_config": {**_EVERYTHING, **vision, "model_type": "clip_vision_model"},
            "vision_config_dict": vision,
        },
    )
    assert isinstance(spec, ImageTextSpec)
    assert spec.text.pooling is TextPooling.HIGHEST_ID
    assert spec.image.patches.num_tokens == 50
    assert spec.text.encoder.max_model_len == 77


def test_siglip() -> None:
    text = {"model_type": "siglip_text_model", "vocab_size": 32000}
    vision = {"model_type": "siglip_vision_model", "image_size": 384}
    config = {"model_type": "siglip", "initializer_factor": 1.0, "text_config": text, "vision_config": vision}
    spec = parsed("SiglipModel", config)
    assert isinstance(spec, ImageTextSpec)
    assert spec.image.patches.num_tokens == 576
    assert spec.text.encoder.max_model_len == 64


def test_deberta() -> None:
    spec = parsed(
        "DebertaV2ForSequenceClassification",
        {
            "attention_probs_dropout_prob": 0.1,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": 768,
            "id2label": {"0": "LABEL_0"},
            "initializer_range": 0.02,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-07,
            "max_position_embeddings": 512,
            "max_relative_positions": -1,
            "model_type": "deberta-v2",
            "norm_rel_ebd": "layer_norm",
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 0,
            "pooler_dropout": 0,
            "pooler_hidden_act": "gelu",
            "pooler_hidden_size": 768,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
            "position_buckets": 256,
            "relative_attention": True,
            "share_att_key": True,
            "type_vocab_size": 0,
            "vocab_size": 128100,
        },
    )
    assert isinstance(spec, EncoderSpec)
    assert spec.max_model_len == 512


def test_longformer() -> None:
    spec = parsed(
        "LongformerForMaskedLM",
        {
            "attention_mode": "longformer",
            "attention_probs_dropout_prob": 0.1,
            "attention_window": [512] * 12,
            "gradient_checkpointing": False,
            "hidden_act": "gelu",
            "hidden_size": 768,
            "ignore_attention_mask": False,
            "initializer_range": 0.02,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 4098,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 1,
            "sep_token_id": 2,
            "type_vocab_size": 1,
            "vocab_size": 50265,
        },
    )
    assert isinstance(spec, EncoderSpec)
    assert spec.max_model_len == 4096
    assert spec.layers[0].attention.mask == Window(257)


def test_llava() -> None:
    spec = parsed(
        "LlavaForConditionalGeneration",
        {
            "ignore_index": -100,
            "image_token_index": 32000,
            "model_type": "llava",
            "pad_token_id": 32001,
            "projector_hidden_act": "gelu",
            "text_config": {
                "_name_or_path": "lmsys/vicuna-7b-v1.5",
                "architectures": ["LlamaForCausalLM"],
                "max_position_embeddings": 4096,
                "model_type": "llama",
                "rms_norm_eps": 1e-05,
                "torch_dtype": "float16",
                "vocab_size": 32064,
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "vision_config": {
                "hidden_size": 1024,
                "image_size": 336,
                "intermediate_size": 4096,
                "model_type": "clip_vision_model",
                "num_attention_heads": 16,
                "num_hidden_layers": 24,
                "patch_size": 14,
                "projection_dim": 768,
                "vocab_size": 32000,
            },
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": 32064,
        },
    )
    assert isinstance(spec, ImageDecoderSpec)
    assert (spec.num_image_tokens, len(spec.image.layers), spec.text.hidden_size) == (576, 23, 4096)


@pytest.mark.parametrize("scaling", [{"type": "mrope"}, {"rope_type": "default"}], ids=str)
def test_qwen2_vl(scaling: dict[str, object]) -> None:
    spec = parsed(
        "Qwen2VLForConditionalGeneration",
        {
            "attention_dropout": 0.0,
            "vision_start_token_id": 151652,
            "vision_end_token_id": 151653,
            "vision_token_id": 151654,
            "image_token_id": 151655,
            "video_token_id": 151656,
            "hidden_act": "silu",
            "hidden_size": 1536,
            "initializer_range": 0.02,
            "intermediate_size": 8960,
            "max_position_embeddings": 32768,
            "max_window_layers": 28,
            "model_type": "qwen2_vl",
            "num_attention_heads": 12,
            "num_hidden_layers": 28,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "rope_scaling": {**scaling, "mrope_section": [16, 24, 24]},
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "use_cache": True,
            "use_sliding_window": False,
            "vision_config": {
                "depth": 32,
                "embed_dim": 1280,
                "mlp_ratio": 4,
                "num_heads": 16,
                "in_chans": 3,
                "hidden_size": 1536,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "spatial_patch_size": 14,
                "temporal_patch_size": 2,
            },
            "vocab_size": 151936,
        },
    )
    assert isinstance(spec, GridDecoderSpec)
    assert spec.image.patch_width == 1176
    assert spec.text.is_head_tied


def test_llama_vision() -> None:
    spec = parsed(
        "MllamaForConditionalGeneration",
        {
            "image_token_index": 128256,
            "model_type": "mllama",
            "text_config": {
                **_EVERYTHING,
                "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
                "dropout": 0,
                "eos_token_id": [128001, 128008, 128009],
                "hidden_act": "silu",
                "hidden_size": 4096,
                "initializer_range": 0.02,
                "intermediate_size": 14336,
                "max_position_embeddings": 131072,
                "model_type": "mllama_text_model",
                "num_attention_heads": 32,
                "num_hidden_layers": 40,
                "num_key_value_heads": 8,
                "pad_token_id": 128004,
                "rms_norm_eps": 1e-05,
                "rope_scaling": {
                    "factor": 8.0,
                    "high_freq_factor": 4.0,
                    "low_freq_factor": 1.0,
                    "original_max_position_embeddings": 8192,
                    "rope_type": "llama3",
                },
                "rope_theta": 500000.0,
                "tie_word_embeddings": False,
                "use_cache": True,
                "vocab_size": 128256,
            },
            "vision_config": {
                **_EVERYTHING,
                "attention_heads": 16,
                "hidden_act": "gelu",
                "hidden_size": 1280,
                "image_size": 560,
                "initializer_range": 0.02,
                "intermediate_layers_indices": [3, 7, 15, 23, 30],
                "intermediate_size": 5120,
                "max_num_tiles": 4,
                "model_type": "mllama_vision_model",
                "norm_eps": 1e-05,
                "num_channels": 3,
                "num_global_layers": 8,
                "num_hidden_layers": 32,
                "patch_size": 14,
                "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
                "vision_output_dim": 7680,
            },
        },
    )
    assert isinstance(spec, TiledDecoderSpec)
    assert (len(spec.text.layers), spec.cross_places[-1], spec.num_ids) == (32, 38, 128264)
    assert (spec.image.num_tokens, spec.image.num_filled, spec.image.out_size) == (1601, 1608, 7680)
