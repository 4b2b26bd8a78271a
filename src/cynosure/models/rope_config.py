"""Read the rotary positions of any family from its config. Knows nothing of the rest of a config.

Three spellings are in use: `rope_parameters`; the same by layer type (Gemma 3); and, before transformers 5,
`rope_scaling` beside a top-level `rope_theta`.

Where a published scaling looks at the current length (`dynamic`, `longrope`), we choose by the declared
maximum length, so that a key keeps its rotation while its sequence grows, and a cache can hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cynosure.attention.positions import (
    DynamicNtk,
    Linear,
    Llama3,
    LongRope,
    NoScaling,
    Rope,
    RopeScaling,
    Yarn,
)
from cynosure.core.errors import AttentionError, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader

#: The one key that is ours: `load` puts the length there that the caller declares.
DECLARED_LENGTH = "max_model_len"

#: How configs call the kinds of layers.
LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclass(frozen=True)
class _Lengths:
    """What a config says of lengths: the longest, the one trained first, the one that the caller declares."""

    max_positions: int
    original: int | None
    declared: int | None


def declared_length(reader: ConfigReader, longest: int | None) -> int | None:
    """Return how long a sequence may be: what the caller declared, else `longest`.

    Raises:
        UnsupportedConfig: the caller wants more than `longest`.
    """
    declared = reader.take(DECLARED_LENGTH, int, None, positive=True)
    if declared is not None and longest is not None and declared > longest:
        raise UnsupportedConfig(
            f"{DECLARED_LENGTH} is {declared}; the checkpoint reaches {longest} positions. Declare fewer."
        )
    return longest if declared is None else declared


def read_rope(
    reader: ConfigReader,
    head_dim: int,
    *,
    theta: float | None = 10_000.0,
    share: float | None = 1.0,
    layer_type: str | None = None,
    is_interleaved: bool = False,
    max_positions: int | None = None,
) -> Rope:
    """Return the rotary position of the layers of `layer_type`, or of all.

    Args:
        reader: a config that holds `max_position_embeddings`.
        head_dim: channels of a head.
        theta: what an absent base means; `None` requires one.
        share: of a head's channels are rotated where the config does not say; `None` where the published
            graph rotates them all whatever it says, so that a config that says otherwise is refused.
        layer_type: the key under which `rope_parameters` keeps these layers' own, where it does.
        is_interleaved: neighbouring channels pair up, instead of halves.
        max_positions: what an absent `max_position_embeddings` means; `None` requires one.

    Raises:
        UnsupportedConfig: a kind of scaling that we do not know, or numbers that do not fit.
    """
    key = "max_position_embeddings"
    lengths = _Lengths(
        reader.take(key, int, positive=True)
        if max_positions is None
        else reader.take(key, int, max_positions, positive=True),
        reader.take("original_max_position_embeddings", int, None, positive=True),
        reader.take(DECLARED_LENGTH, int, None, positive=True),
    )
    base = reader.take("rope_theta", float, theta, positive=True)
    stated = reader.take("partial_rotary_factor", float, None, positive=True)
    values = _parameters(reader, layer_type)
    if values is None:
        values = ConfigReader({}, reader.where)
    base = values.take("rope_theta", float, base, positive=True)
    if base is None:
        raise UnsupportedConfig(f"{reader.where} lacks rope_theta; it has no default here. Add it.")
    stated = values.take("partial_rotary_factor", float, stated, positive=True)
    if share is None and stated not in (None, 1.0):
        raise UnsupportedConfig(
            f"{values.where} has partial_rotary_factor = {stated}, which the published graph of this "
            "architecture does not read. Remove it, or report the checkpoint."
        )
    dim = int(head_dim * (share or 1.0 if stated is None else stated))
    try:
        scaling, longest = _scaling(values, lengths)
        length = declared_length(reader, longest)
        return Rope(dim, base, scaling, is_interleaved=is_interleaved, max_model_len=length)
    except AttentionError as error:
        raise UnsupportedConfig(f"{values.where} does not fit together: {error}") from error


def _parameters(reader: ConfigReader, layer_type: str | None) -> ConfigReader | None:
    values = reader.sub("rope_parameters")
    if values is None:
        return reader.sub("rope_scaling")
    if not any(values.holds(kind, dict) for kind in LAYER_TYPES):
        return values
    return None if layer_type is None else values.sub(layer_type)


def _scaling(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    """Return the scaling, and the longest sequence that it reaches."""
    old = values.take("type", str, "default")
    kind = values.take("rope_type", str, old)
    values.ignore("finetuned")
    if kind not in _KINDS:
        names = ", ".join(sorted(_KINDS))
        raise UnsupportedConfig(
            f"{values.where} has rope_type = {kind!r}; only {names} are supported. Report the checkpoint."
        )
    return _KINDS[kind](values, lengths)


def _default(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    return NoScaling(), lengths.max_positions


def _linear(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    return Linear(values.take("factor", float, positive=True)), lengths.max_positions


def _dynamic(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    """Trained to `max_position_embeddings`, and stretched from there: up to `factor` times by default."""
    factor = values.take("factor", float, positive=True)
    longest = lengths.declared or int(lengths.max_positions * factor)
    return DynamicNtk(factor, lengths.max_positions), longest


def _yarn(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    original = _original(values, lengths)
    factor = values.take("factor", float, lengths.max_positions / original, positive=True)
    scaling = Yarn(
        factor=factor,
        original_max=original,
        beta_fast=values.take("beta_fast", float, 32.0),
        beta_slow=values.take("beta_slow", float, 1.0),
        attention_factor=values.take("attention_factor", float, None),
        mscale=values.take("mscale", float, None),
        mscale_all_dim=values.take("mscale_all_dim", float, None),
        truncate=values.take("truncate", bool, True),
    )
    return scaling, lengths.max_positions


def _llama3(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    scaling = Llama3(
        factor=values.take("factor", float, positive=True),
        low=values.take("low_freq_factor", float, positive=True),
        high=values.take("high_freq_factor", float, positive=True),
        original_max=_original(values, lengths),
    )
    return scaling, lengths.max_positions


def _longrope(values: ConfigReader, lengths: _Lengths) -> tuple[RopeScaling, int]:
    original = _original(values, lengths)
    scaling = LongRope(
        short_factor=values.take_list("short_factor", float) or (),
        long_factor=values.take_list("long_factor", float) or (),
        original_max=original,
        max_positions=lengths.max_positions,
        attention_factor=values.take("attention_factor", float, None),
        factor=values.take("factor", float, None),
    )
    return scaling, lengths.max_positions


def _original(values: ConfigReader, lengths: _Lengths) -> int:
    """Return the length trained first; one beside the rope parameters goes before one among them."""
    inner = values.take("original_max_position_embeddings", int, lengths.max_positions, positive=True)
    return inner if lengths.original is None else lengths.original


_KINDS: dict[str, Callable[[ConfigReader, _Lengths], tuple[RopeScaling, int]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
    "mrope": _default,  # families that have it read its sections; to others they are unknown
    "su": _longrope,  # what LongRoPE was first called
}
