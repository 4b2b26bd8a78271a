"""Say whether JSON is as it was written, and by whom. Knows nothing of what it says."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping

_PURPOSE = b"cynosure head profile\0"


def digest_of(content: Mapping[str, object]) -> str:
    """SHA-256 of JSON in its one spelling: keys sorted, nothing between tokens.

    Raises:
        TypeError, ValueError: it holds something that JSON does not.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signature_of(digest: str, key: bytes) -> str:
    """An HMAC of the digest, which nobody without the key can make."""
    return hmac.new(key, _PURPOSE + digest.encode(), hashlib.sha256).hexdigest()


def is_signed_by(digest: str, signature: str, key: bytes) -> bool:
    """Whether the signature was made with the key."""
    return hmac.compare_digest(signature_of(digest, key).encode(), signature.encode())
