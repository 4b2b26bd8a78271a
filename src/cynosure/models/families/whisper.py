"""Read Whisper checkpoints. Runs nothing, and hears nothing: the model reads log-mel features.

Whisper, arXiv 2212.04356. Projections of keys have no bias; the encoder's positions are stored sines, the
decoder's are learned.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, FeatureInputSpec, TokenInputSpec
from cynosure.models.families.sides import read_side, rename_sides
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length

#: Of training, of classifiers, of `generate` and of timestamps; a count that repeats the encoder's.
_UNREAD = (
    "apply_spec_augment",
    "classifier_proj_size",
    "forced_decoder_ids",
    "mask_feature_length",
    "mask_feature_min_masks",
    "mask_feature_prob",
    "mask_time_length",
    "mask_time_min_masks",
    "mask_time_prob",
    "median_filter_width",
    "num_hidden_layers",
    "use_weighted_layer_sum",
)


def parse(reader: ConfigReader) -> EncoderDecoderSpec:
    """Return the spec of a `WhisperForConditionalGeneration`."""
    reader.expect("is_encoder_decoder", [True])
    reader.expect("tie_word_embeddings", [True])
    reader.expect("scale_embedding", [False])
    reader.ignore(*_UNREAD)
    num_positions = reader.take("max_source_positions", int, positive=True)
    num_target_positions = reader.take("max_target_positions", int, positive=True)
    frames = FeatureInputSpec(reader.take("num_mel_bins", int, positive=True), num_positions)
    tokens = TokenInputSpec(num_positions=num_target_positions)
    spec = EncoderDecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=reader.take("d_model", int, positive=True),
        norm=NormSpec(NormKind.LAYER, 1e-5, has_bias=True),
        encoder=read_side(reader, "encoder", frames, has_final_norm=True),
        decoder=read_side(reader, "decoder", tokens, has_final_norm=True),
        has_attention_bias=True,
        max_model_len=declared_length(reader, num_target_positions),
        max_input_len=num_positions,
    )
    reader.finish()
    return spec


def rename(spec: EncoderDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors."""
    return rename_sides(weights)


BRANDS: tuple[Brand, ...] = (
    Brand("WhisperForConditionalGeneration", ModelKind.ENCODER_DECODER, parse, EncoderDecoder, rename),
)
