"""Parse a config in the form in which a decoder's file is published. Knows nothing of any brand."""

from __future__ import annotations

from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.load import brand_of

#: What most files say of training, and of how they were written.
EVERYTHING = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
}


def parsed(architecture: str, config: dict[str, object]) -> DecoderSpec:
    values = {**EVERYTHING, "architectures": [architecture], **config}
    spec = brand_of(architecture).parse(ConfigReader(values))
    assert isinstance(spec, DecoderSpec)
    return spec
