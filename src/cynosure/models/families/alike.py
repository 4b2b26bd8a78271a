"""Read what a config says of a decoder whose layers are all alike. Knows nothing of what a layer does."""

from __future__ import annotations

from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec


def decoder_of(
    reader: ConfigReader,
    layer: LayerSpec,
    hidden_size: int,
    max_model_len: int | None,
    *,
    is_head_tied: bool = False,
    has_head_bias: bool = False,
) -> DecoderSpec:
    """Return a decoder of `num_hidden_layers` times `layer`, whose norm is also the last one; end the reader.

    Args:
        reader: a config of which all that shapes a layer was taken.
        layer: every layer.
        hidden_size: the width of a token.
        max_model_len: tokens that a sequence may have.
        is_head_tied: what an absent `tie_word_embeddings` means.
        has_head_bias: the head adds a bias.

    Raises:
        UnsupportedConfig: a key that nobody read.
    """
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("num_hidden_layers", int, positive=True),
        final_norm=layer.norm,
        max_model_len=max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, is_head_tied),
        has_head_bias=has_head_bias,
    )
    reader.finish()
    return spec
