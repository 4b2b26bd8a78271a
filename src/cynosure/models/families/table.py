"""List every architecture that we can load: one row a brand. Knows nothing of how any of them works."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cynosure.models.brand import Brand
from cynosure.models.families import (
    bert,
    bloom,
    cohere2,
    deepseek,
    distilbert,
    falcon,
    gemma,
    glm,
    gpt2,
    gpt_bigcode,
    gpt_neox,
    gpt_oss,
    granite,
    llama,
    mixture,
    modernbert,
    mpnet,
    mpt,
    olmo2,
    roberta,
    smollm3,
    starcoder2,
    t5,
)

_ROWS: tuple[Brand, ...] = (
    # Decoders.
    *bloom.BRANDS,
    *cohere2.BRANDS,
    *deepseek.BRANDS,
    *falcon.BRANDS,
    *gemma.BRANDS,
    *glm.BRANDS,
    *gpt2.BRANDS,
    *gpt_bigcode.BRANDS,
    *gpt_neox.BRANDS,
    *gpt_oss.BRANDS,
    *granite.BRANDS,
    *llama.BRANDS,
    *mixture.BRANDS,
    *mpt.BRANDS,
    *olmo2.BRANDS,
    *smollm3.BRANDS,
    *starcoder2.BRANDS,
    # Encoders.
    *bert.BRANDS,
    *distilbert.BRANDS,
    *modernbert.BRANDS,
    *mpnet.BRANDS,
    *roberta.BRANDS,
    # Encoder-decoders, and their encoders alone.
    *t5.BRANDS,
)

BRANDS: Mapping[str, Brand] = MappingProxyType({brand.architecture: brand for brand in _ROWS})
