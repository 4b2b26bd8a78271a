"""Say with whom a request of a decoder shares pages. Knows nothing of pages.

A key is shared whole or not at all. What shapes later pages alone stands in the tokens that pages are found
by: a bias on a key changes what is computed behind it, and nothing before.
"""

from __future__ import annotations

import struct

from cynosure.cache import CacheKey
from cynosure.engine.request import Request

#: Below what stands for images, which are digests of fewer bits.
_BELOW_IMAGES = 1 << 512


def page_key(request: Request, model_id: str, dtype: str, *, is_shared: bool) -> CacheKey | None:
    """Return what shapes a request's pages beside its tokens; None where it shares none.

    Args:
        request: who asks what, of which adapter by its identity.
        model_id: which weights under which settings.
        dtype: what keys and values are computed and stored in.
        is_shared: whether requests of a tenant share pages; else those of one group do.
    """
    # Splits must be the request's own where it is to be reproducible: it shares no page.
    group = None if is_shared else request.group
    if request.is_reproducible or not (is_shared or group):
        return None
    return CacheKey(
        tenant=request.tenant,
        model=model_id,
        dtype=dtype,
        adapter=request.adapter,
        # Places of an image may see each other: a bias in one reaches the pages before it.
        bias=request.bias if request.images else (),
        group=group,
    )


def biased_ids(request: Request) -> tuple[int, ...] | None:
    """Return what pages of a prompt are found by where scores of its keys are changed; None: its tokens.

    A token under a bias is another one than without, or under another.
    """
    # Nothing is kept of what a late bias shapes, and before it all is as everybody reads it.
    if not request.bias or request.images or request.bias_from:
        return None
    ids = list(request.token_ids)
    for start, end, nats in request.bias:
        (bits,) = struct.unpack("<Q", struct.pack("<d", nats))
        # One number for each word, however often it comes: they are large.
        named = {token_id: -1 - _BELOW_IMAGES - (token_id << 64) - bits for token_id in set(ids[start:end])}
        ids[start:end] = [named[token_id] for token_id in ids[start:end]]
    return tuple(ids)
