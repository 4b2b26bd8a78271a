"""Say which bytes one token stands for, wherever it stands in a text. Knows nothing of sequences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tokenizers import Tokenizer as RawTokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NUM_BYTES = 256


def _byte_letters() -> dict[str, int]:
    """Which byte each letter of a byte-level vocabulary is: GPT-2's table."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(_NUM_BYTES) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(_NUM_BYTES + place): byte for place, byte in enumerate(others)}


_LETTERS: Final[Mapping[str, int]] = _byte_letters()


class TokenBytes:
    """The bytes of each token of a vocabulary; control tokens are spelled as they are named.

    Args:
        raw: The tokenizer.
    """

    def __init__(self, raw: RawTokenizer) -> None:
        """Read which tokens are spelled as they are named."""
        self._raw = raw
        self._added = {token_id: token.content for token_id, token in raw.get_added_tokens_decoder().items()}
        decoder = b"" if raw.decoder is None else raw.decoder.__getstate__()
        self._is_byte_level = b'"ByteLevel"' in decoder
        self._has_byte_fallback = b'"ByteFallback"' in decoder

    def of(self, token_id: int) -> bytes:
        """The bytes of a token behind other text; none where there is no such token."""
        token = self._added.get(token_id) or self._raw.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._added:
            return token.encode()
        if self._is_byte_level and all(letter in _LETTERS for letter in token):
            return bytes(_LETTERS[letter] for letter in token)
        byte = _BYTE_TOKEN.fullmatch(token) if self._has_byte_fallback else None
        if byte is not None:
            return bytes.fromhex(byte.group(1))
        # Decoders treat the first token of a text differently, so that it is read behind itself.
        once, twice = (self._raw.decode([token_id] * count, skip_special_tokens=False) for count in (1, 2))
        return twice[len(once) :].encode()
