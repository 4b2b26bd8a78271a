"""Read the half for texts of a config that joins images, or sounds, to them. Knows nothing of any family.

A decoder that is served so answers texts alone: requests that bring more are refused, as for any decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.rope_config import DECLARED_LENGTH


def texts_alone(
    reader: ConfigReader, parse: Callable[[ConfigReader], DecoderSpec], unread: Collection[str]
) -> DecoderSpec:
    """Return what `parse` makes of `text_config`; end the reader.

    Args:
        reader: a config of both halves.
        parse: reads the config of a decoder.
        unread: keys beside `text_config` that shape the other half.

    Raises:
        UnsupportedConfig: a key of either that nobody read.
    """
    given = reader.take("text_config", dict)
    declared = reader.take(DECLARED_LENGTH, int, None, positive=True)
    is_tied = reader.take("tie_word_embeddings", bool, None)
    if declared is not None:
        given = {**given, DECLARED_LENGTH: declared}
    if is_tied is not None and given.get("tie_word_embeddings") is None:
        given = {**given, "tie_word_embeddings": is_tied}
    reader.ignore(*unread)
    spec = parse(ConfigReader(given, f"{reader.where}: text_config"))
    reader.finish()
    return spec
