"""Say which code each part of a model gets. Knows nothing of tensors.

A scheme is asked for by name, and told in a quantised checkpoint's `config.json`:

    "quantization_config": {"quant_method": "cynosure", "version": 1, "scheme": "int4", "bits": 4,
                            "group_size": 32, "head_bits": 8}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cynosure.core.errors import CheckpointCorrupt, UnknownOption, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.json_file import JsonValue
from cynosure.models.quantize.code_format import INT4, INT4_G128, INT8, CodeFormat

CONFIG_KEY = "quantization_config"
METHOD = "cynosure"
VERSION = 1

#: Codes that a family reads by itself.
FAMILIES_OWN = ("mxfp4",)


@dataclass(frozen=True)
class QuantScheme:
    """The code of the layers' projections, and that of the head.

    A head decides between many close scores and is read once a token, so that it keeps 8 bits unless a
    scheme is "pure". A table of embeddings that is tied to the head is the head: one table of codes serves
    both. Other embeddings, norms, biases, routers and the factors of latent attention stay as they are.
    """

    name: str
    body: CodeFormat
    head: CodeFormat

    def config(self) -> dict[str, JsonValue]:
        """Return the object that a quantised checkpoint's config holds."""
        return {"quant_method": METHOD, "version": VERSION, "scheme": self.name, **self._told()}

    def _told(self) -> dict[str, JsonValue]:
        return {"bits": self.body.bits, "group_size": self.body.group_size, "head_bits": self.head.bits}


SCHEMES: Mapping[str, QuantScheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            QuantScheme("int8", INT8, INT8),
            QuantScheme("int4", INT4, INT8),
            QuantScheme("int4-g128", INT4_G128, INT8),
            QuantScheme("int4-pure", INT4, INT4),
            QuantScheme("int4-g128-pure", INT4_G128, INT4_G128),
        )
    }
)


def scheme_of(name: str) -> QuantScheme:
    """Return a scheme by its name.

    Raises:
        UnknownOption: there is none; the message lists those that there are.
    """
    if name not in SCHEMES:
        raise UnknownOption(f"weights can't be kept in {name!r}; choose one of {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def read_scheme(config: Mapping[str, JsonValue], where: str = "config.json") -> QuantScheme | None:
    """Return the scheme that a checkpoint was written in; `None` where a family reads it by itself.

    Raises:
        UnsupportedConfig: it is quantised by another method, or by a later version of ours.
        CheckpointCorrupt: our own object contradicts itself.
    """
    value = config.get(CONFIG_KEY)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UnsupportedConfig(
            f"{where} has {CONFIG_KEY} = {value!r}, which is no object. Correct the file."
        )
    method = value.get("quant_method")
    if method in FAMILIES_OWN:
        return None
    if method != METHOD:
        raise UnsupportedConfig(
            f"{where} has {CONFIG_KEY} with quant_method = {method!r}; of quantised checkpoints only those "
            "that `cynosure quantize` wrote are read. Take the checkpoint in bfloat16 and quantise it here."
        )
    reader = ConfigReader(value, f"{where}: {CONFIG_KEY}")
    reader.expect("quant_method", [METHOD])
    reader.expect("version", [VERSION])
    name = reader.take("scheme", str)
    told = {key: reader.take(key, int, None) for key in ("bits", "group_size", "head_bits")}
    reader.finish()
    scheme = SCHEMES.get(name)
    if scheme is None or scheme.config() != {**scheme.config(), **told}:
        raise CheckpointCorrupt(
            f"{reader.where} has scheme = {name!r} with {told}; that is no scheme of {', '.join(SCHEMES)}. "
            "Quantise the checkpoint again."
        )
    return scheme
