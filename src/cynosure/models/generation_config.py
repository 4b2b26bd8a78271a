"""Read what a checkpoint advises for sampling. Knows nothing of how tokens are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.gguf.advice import sampling_of
from cynosure.models.gguf.config import gguf_config
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.json_file import JsonValue, read_json_object

#: What config.json may hold for generation_config.json.
_TOKEN_KEYS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)


@dataclass(frozen=True)
class GenerationDefaults:
    """What a checkpoint's authors advise; None where they say nothing. A request overrides each.

    Of encoder-decoders: `forced_bos_token_id` is what an answer begins with behind `decoder_start_token_id`,
    `suppressed_ids` are tokens that it never holds, and `begin_suppressed_ids` those that do not come first.
    `other` lists the keys that the file holds and that nobody here reads.
    """

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    suppressed_ids: tuple[int, ...] = ()
    begin_suppressed_ids: tuple[int, ...] = ()
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_new_tokens: int | None = None
    other: tuple[str, ...] = ()


def read_generation_defaults(folder: Path) -> GenerationDefaults:
    """The defaults in `folder`: token ids that generation_config.json lacks come from config.json.

    A GGUF file holds the same under its own keys.

    Raises:
        CheckpointCorrupt: A file is no JSON object.
        UnsupportedConfig: A key that we read has the wrong type or range.
    """
    values, config, where = _stored(folder)
    for key in _TOKEN_KEYS:
        if values.get(key) is None and config.get(key) is not None:
            values[key] = config[key]
    reader = ConfigReader(values, where=where)
    bad_words = reader.take_list("bad_words_ids", list) or ()
    is_longer = any(len(word) != 1 for word in bad_words)
    known = GenerationDefaults(
        eos_token_ids=_eos_token_ids(reader),
        bos_token_id=_token_id(reader, "bos_token_id"),
        pad_token_id=_token_id(reader, "pad_token_id"),
        decoder_start_token_id=_token_id(reader, "decoder_start_token_id"),
        forced_bos_token_id=_token_id(reader, "forced_bos_token_id"),
        suppressed_ids=_suppressed_ids(reader, bad_words),
        begin_suppressed_ids=reader.take_list("begin_suppress_tokens", int, ()) or (),
        do_sample=reader.take("do_sample", bool, None),
        temperature=_at_least_zero(reader, "temperature"),
        top_k=_top_k(reader),
        top_p=_share(reader, "top_p"),
        min_p=_share(reader, "min_p"),
        repetition_penalty=reader.take("repetition_penalty", float, None, positive=True),
        max_new_tokens=reader.take("max_new_tokens", int, None, positive=True),
        other=(*(["bad_words_ids"] if is_longer else []), *reader.unread),
    )
    return known


def _stored(folder: Path) -> tuple[dict[str, JsonValue], dict[str, JsonValue], str]:
    """The advice, the config, and how messages call the advice."""
    if is_gguf(folder):
        file = read_gguf(folder)
        return sampling_of(file), gguf_config(file), str(folder)
    path, config_path = folder / "generation_config.json", folder / "config.json"
    values = read_json_object(path) if path.is_file() else {}
    return values, read_json_object(config_path) if config_path.is_file() else {}, path.name


def _eos_token_ids(reader: ConfigReader) -> tuple[int, ...]:
    if not reader.holds("eos_token_id", list):
        one = _token_id(reader, "eos_token_id")
        return () if one is None else (one,)
    ids = reader.take_list("eos_token_id", int) or ()
    if any(token_id < 0 for token_id in ids):
        raise UnsupportedConfig(
            f"{reader.where} has a negative id in eos_token_id = {list(ids)}; correct the file."
        )
    return tuple(dict.fromkeys(ids))


def _suppressed_ids(reader: ConfigReader, bad_words: Sequence[Sequence[JsonValue]]) -> tuple[int, ...]:
    """Single tokens that are never said."""
    single = [word[0] for word in bad_words if len(word) == 1]
    held_back = [
        *(one for one in single if isinstance(one, int)),
        *(reader.take_list("suppress_tokens", int) or ()),
    ]
    return tuple(dict.fromkeys(held_back))


def _token_id(reader: ConfigReader, key: str) -> int | None:
    value = reader.take(key, int, None)
    # Old configs write -1 for "none".
    return None if value is not None and value < 0 else value


def _at_least_zero(reader: ConfigReader, key: str) -> float | None:
    value = reader.take(key, float, None)
    if value is not None and value < 0:
        raise UnsupportedConfig(f"{reader.where} has {key} = {value}; it can't be below 0. Correct the file.")
    return value


def _share(reader: ConfigReader, key: str) -> float | None:
    value = _at_least_zero(reader, key)
    if value is not None and value > 1:
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {value}; it must lie in [0, 1]. Correct the file."
        )
    return value


def _top_k(reader: ConfigReader) -> int | None:
    # 0 and -1 both say "no limit" in the wild.
    value = reader.take("top_k", int, None)
    return None if value is not None and value <= 0 else value
