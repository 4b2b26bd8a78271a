"""Name pages on disk by all that shapes them. Knows nothing of tensors or files.

Names are keyed hashes: without the secret nobody can tell from a name whose page it is, or test a guess of
its tokens; and no two tenants, models, builds or dtypes have a name in common.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict

from cynosure.cache.cache_key import CacheKey

NAME_BYTES = 32


class PageNames:
    """Names of one model's pages and sessions."""

    def __init__(self, secret: bytes, identity: str, block_size: int) -> None:
        """Name what a model computes; `identity` is what shapes its keys and values beside a `CacheKey`."""
        self._secret = secret
        self._identity = identity
        self._block_size = block_size

    def pages(self, key: CacheKey, token_ids: Sequence[int]) -> tuple[bytes, ...]:
        """Return the name of each full page of a sequence; each depends on all tokens before it too."""
        size = self._block_size
        names, above = [], self._hash(b"key", [self._identity, size, asdict(key)])
        for start in range(0, len(token_ids) - size + 1, size):
            tokens = token_ids[start : start + size]
            if min(tokens) < 0:
                # What tells an image from all others stands in its places, and fits in no 64 bits.
                above = self._hash(b"media", [above.hex(), list(tokens)])
            else:
                above = self._digest(b"page", above + struct.pack(f"<{size}q", *tokens))
            names.append(above)
        return tuple(names)

    def session(self, key: CacheKey, name: str) -> bytes:
        """Return what a tenant's session is called on disk."""
        return self._hash(b"session", [self._identity, self._block_size, asdict(key), name])

    def _hash(self, purpose: bytes, content: object) -> bytes:
        return self._digest(purpose, json.dumps(content, sort_keys=True).encode())

    def _digest(self, purpose: bytes, content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=NAME_BYTES, key=self._secret, person=purpose).digest()
