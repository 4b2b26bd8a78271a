"""Name everything that shapes a page beside its tokens. Knows nothing of pages or of who asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheKey:
    """What two sequences must have in common before they may share a page of equal tokens.

    Real values, never a digest that two requests could be made to share. Pages of different keys are never
    shared, whatever their tokens.

    - `tenant`: whose pages these are, as the server derived it from the credentials; never a caller's word.
    - `model`: which weights under which settings, the declared maximum length included (it chooses RoPE's
      factors).
    - `adapter`: which adapter is applied; `None` for the bare model.
    - `dtype`: what keys and values are computed and stored in.
    - `bias`: `(first token, end, nats)` of every run of keys whose scores were changed; `-inf` denied them.
    - `media`: digest of an encoder's input: of an image, of features, or of tokens. Among tokens, images tell
      themselves apart in their places: the whole digest stands there, where other places have token ids.
    - `visibility`: which documents and spans may see each other, where the mask follows the request.
    - `group`: which requests alone share it, where no others may; `None` where all of the tenant's may.
    - `is_reproducible`: whether splits and kernels were fixed, so that the values are the same bit for bit.
    """

    tenant: str
    model: str
    dtype: str
    adapter: str | None = None
    bias: tuple[tuple[int, int, float], ...] = ()
    media: tuple[str, ...] = ()
    visibility: tuple[str, ...] = ()
    group: str | None = None
    is_reproducible: bool = False
