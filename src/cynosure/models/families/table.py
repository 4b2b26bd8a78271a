"""List every architecture that we can load: one row a brand. Knows nothing of how any of them works."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cynosure.models.brand import Brand
from cynosure.models.families import (
    bart,
    bert,
    big_bird,
    bloom,
    clip,
    cohere2,
    deberta,
    deepseek,
    distilbert,
    exaone4,
    falcon,
    gemma,
    glm,
    gpt2,
    gpt_bigcode,
    gpt_neox,
    gpt_oss,
    gptj,
    granite,
    led,
    llama,
    llava,
    longformer,
    mixture,
    modernbert,
    mpnet,
    mpt,
    olmo2,
    opt,
    pegasus_x,
    phi,
    qwen2_vl,
    roberta,
    siglip,
    smollm3,
    stablelm,
    starcoder2,
    t5,
    vit,
    whisper,
)

_ROWS: tuple[Brand, ...] = (
    # Decoders.
    *bloom.BRANDS,
    *cohere2.BRANDS,
    *deepseek.BRANDS,
    *exaone4.BRANDS,
    *falcon.BRANDS,
    *gemma.BRANDS,
    *glm.BRANDS,
    *gpt2.BRANDS,
    *gpt_bigcode.BRANDS,
    *gpt_neox.BRANDS,
    *gpt_oss.BRANDS,
    *gptj.BRANDS,
    *granite.BRANDS,
    *llama.BRANDS,
    *mixture.BRANDS,
    *mpt.BRANDS,
    *olmo2.BRANDS,
    *opt.BRANDS,
    *phi.BRANDS,
    *smollm3.BRANDS,
    *stablelm.BRANDS,
    *starcoder2.BRANDS,
    # Encoders.
    *bert.BRANDS,
    *big_bird.BRANDS,
    *deberta.BRANDS,
    *distilbert.BRANDS,
    *longformer.BRANDS,
    *modernbert.BRANDS,
    *mpnet.BRANDS,
    *roberta.BRANDS,
    # Encoder-decoders, and their encoders alone.
    *bart.BRANDS,
    *led.BRANDS,
    *pegasus_x.BRANDS,
    *t5.BRANDS,
    *whisper.BRANDS,
    # Encoders of images, alone or beside one of texts, or before a decoder.
    *clip.BRANDS,
    *llava.BRANDS,
    *qwen2_vl.BRANDS,
    *siglip.BRANDS,
    *vit.BRANDS,
)

BRANDS: Mapping[str, Brand] = MappingProxyType({brand.architecture: brand for brand in _ROWS})
