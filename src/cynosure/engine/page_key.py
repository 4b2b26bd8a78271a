"""Say with whom a request of a decoder shares pages. Knows nothing of pages."""

from __future__ import annotations

from cynosure.cache import CacheKey
from cynosure.engine.request import Request


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
        bias=request.bias,
        group=group,
    )
