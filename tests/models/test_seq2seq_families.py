"""Configs as their authors published them are read, whatever they repeat."""

from __future__ import annotations

import pytest

from cynosure.attention.masks import Chunk, Global, Window
from cynosure.attention.positions import T5Bias
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder_spec import (
    BlockSums,
    EncoderDecoderSpec,
    FeatureInputSpec,
    GlobalTokens,
    TokenInputSpec,
)
from cynosure.models.families.table import BRANDS

Values = dict[str, object]

_SIDES: Values = {
    "activation_dropout": 0.0,
    "attention_dropout": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": 0.0,
    "d_model": 64,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 128,
    "decoder_layerdrop": 0.0,
    "decoder_layers": 2,
    "dropout": 0.1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "encoder_layerdrop": 0.0,
    "encoder_layers": 2,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0"},
    "init_std": 0.02,
    "is_encoder_decoder": True,
    "num_hidden_layers": 2,
    "use_cache": True,
    "vocab_size": 100,
}
_OLD: Values = {
    **_SIDES,
    "_num_labels": 3,
    "add_bias_logits": False,
    "classif_dropout": 0.0,
    "extra_pos_embeddings": 2,
    "max_position_embeddings": 512,
}
_PRE_NORM: Values = {"add_final_layer_norm": True, "normalize_before": True, "activation_function": "relu"}
_SINES: Values = {"static_position_embeddings": True, "normalize_embedding": False, "scale_embedding": True}
_T5: Values = {
    "d_ff": 128,
    "d_kv": 16,
    "d_model": 64,
    "dropout_rate": 0.1,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-6,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "num_layers": 2,
    "output_past": True,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 100,
}
PUBLISHED: dict[str, Values] = {
    "BartForConditionalGeneration": {
        **_OLD,
        "activation_function": "gelu",
        "add_final_layer_norm": False,
        "force_bos_token_to_be_generated": True,
        "forced_eos_token_id": 2,
        "no_repeat_ngram_size": 3,
        "normalize_before": False,
        "prefix": " ",
        "scale_embedding": False,
    },
    "MBartForConditionalGeneration": {
        **_OLD,
        **_PRE_NORM,
        "normalize_embedding": True,
        "scale_embedding": True,
        "static_position_embeddings": False,
    },
    "MarianMTModel": {
        **_OLD,
        **_SINES,
        "activation_function": "swish",
        "add_final_layer_norm": False,
        "bad_words_ids": [[99]],
        "decoder_vocab_size": 100,
        "normalize_before": False,
        "share_encoder_decoder_embeddings": True,
    },
    "PegasusForConditionalGeneration": {**_OLD, **_SINES, **_PRE_NORM, "length_penalty": 0.6},
    "PegasusXForConditionalGeneration": {
        **_OLD,
        **_SINES,
        **_PRE_NORM,
        "block_size": 512,
        "num_global_tokens": 128,
        "stagger_local_blocks": True,
    },
    "LEDForConditionalGeneration": {
        **_SIDES,
        "activation_function": "gelu",
        "attention_window": 1024,
        "max_decoder_position_embeddings": 1024,
        "max_encoder_position_embeddings": 16384,
    },
    "WhisperForConditionalGeneration": {
        **_SIDES,
        "activation_function": "gelu",
        "apply_spec_augment": False,
        "begin_suppress_tokens": [220, 50257],
        "forced_decoder_ids": [[1, 50259]],
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "num_mel_bins": 80,
        "suppress_tokens": [1, 2],
    },
    "UMT5ForConditionalGeneration": {**_T5, "scalable_attention": True},
    "LongT5ForConditionalGeneration": {
        **_T5,
        "encoder_attention_type": "transient-global",
        "global_block_size": 16,
        "local_radius": 127,
        "n_positions": 4096,
    },
}


def _spec(name: str, **changes: object) -> EncoderDecoderSpec:
    return BRANDS[name].parse(ConfigReader({**PUBLISHED[name], **changes}))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read(name: str) -> None:
    spec = _spec(name)
    assert spec.vocab_size == 100
    assert spec.decoder is not None
    assert len(spec.encoder.layers) == len(spec.decoder.layers) == 2


def test_where_brands_of_one_line_differ() -> None:
    bart, mbart, marian, pegasus = (
        _spec(name)
        for name in (
            "BartForConditionalGeneration",
            "MBartForConditionalGeneration",
            "MarianMTModel",
            "PegasusForConditionalGeneration",
        )
    )
    assert [spec.is_pre_norm for spec in (bart, mbart, marian, pegasus)] == [False, True, False, True]
    inputs = [spec.encoder.inputs for spec in (bart, mbart, marian, pegasus)]
    assert all(isinstance(one, TokenInputSpec) for one in inputs)
    assert [one.scale for one in inputs] == [1.0, 8.0, 8.0, 8.0]  # type: ignore[union-attr]
    assert [one.position_offset for one in inputs] == [2, 2, 0, 0]  # type: ignore[union-attr]
    assert marian.encoder.mlp.activation == "silu"


def test_how_much_is_read_and_said() -> None:
    whisper, led = _spec("WhisperForConditionalGeneration"), _spec("LEDForConditionalGeneration")
    assert whisper.features == FeatureInputSpec(80, 1500)
    assert whisper.features.num_frames == 3000
    assert (whisper.max_input_len, whisper.max_model_len) == (1500, 448)
    assert not whisper.has_key_bias
    assert (led.max_input_len, led.max_model_len) == (16384, 1024)


def test_what_long_encoders_attend_to() -> None:
    led = _spec("LEDForConditionalGeneration", attention_window=[8, 16])
    assert [layer.mask for layer in led.encoder.layers] == [Window(5) | Global(1), Window(9) | Global(1)]
    pegasus = _spec("PegasusXForConditionalGeneration").encoder
    assert pegasus.layers[0].mask == Chunk(512)
    assert pegasus.far == GlobalTokens(128, 256)
    long = _spec("LongT5ForConditionalGeneration").encoder
    assert long.layers[0].mask == Window(128)
    assert isinstance(long.far, BlockSums)
    assert long.far.attention.position == T5Bias(32, 128)
    assert _spec("LongT5ForConditionalGeneration", encoder_attention_type="local").encoder.far is None


def test_logits_are_scaled_where_the_config_ties_them() -> None:
    for name in ("UMT5ForConditionalGeneration", "LongT5ForConditionalGeneration"):
        assert _spec(name).logit_scale == 1.0
        assert _spec(name, tie_word_embeddings=True).logit_scale == 64**-0.5
