"""List every architecture that we can load: one row a brand. Knows nothing of how any of them works."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cynosure.models.brand import Brand
from cynosure.models.families import bert, bloom, deepseek, gemma, gpt2, gpt_oss, llama, mixture, modernbert, t5

_ROWS: tuple[Brand, ...] = (
    # Decoders.
    *bloom.BRANDS,
    *deepseek.BRANDS,
    *gemma.BRANDS,
    *gpt2.BRANDS,
    *gpt_oss.BRANDS,
    *llama.BRANDS,
    *mixture.BRANDS,
    # Encoders.
    *bert.BRANDS,
    *modernbert.BRANDS,
    # Encoder-decoders, and their encoders alone.
    *t5.BRANDS,
)

BRANDS: Mapping[str, Brand] = MappingProxyType({brand.architecture: brand for brand in _ROWS})
