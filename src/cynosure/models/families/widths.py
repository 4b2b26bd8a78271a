"""Share a hidden size among heads. Knows nothing of any family's keys."""

from __future__ import annotations

from cynosure.attention import Heads
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.config_reader import ConfigReader


def equal_heads(
    reader: ConfigReader, hidden_size: int, num_heads: int, num_kv_heads: int | None = None
) -> Heads:
    """Return `num_heads` heads that together are as wide as a token.

    Raises:
        UnsupportedConfig: they do not share the width, or the K/V heads, evenly.
    """
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if hidden_size % num_heads or num_heads % num_kv_heads:
        raise UnsupportedConfig(
            f"{reader.where} has {hidden_size} channels for {num_heads} heads, and {num_kv_heads} heads of "
            "keys; each must be a multiple of the next. Correct it."
        )
    return Heads.of(num_heads, hidden_size // num_heads, num_kv_heads)
