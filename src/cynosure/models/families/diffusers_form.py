"""Read what all folders have alike that diffusers writes. Knows nothing of any one network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.families import naming
from cynosure.models.families.vit import as_rows


@dataclass(frozen=True)
class Place:
    """A part of a graph that recurs: how its modules' names begin, theirs and ours, and the modules in it."""

    theirs: str
    ours: str
    modules: Mapping[str, naming.Target]


def renamed(weights: Weights, places: Sequence[Place]) -> dict[str, TensorSource]:
    """Return the graph's names with the tensors that belong there, each by the first place that knows it.

    A name that no place knows stays as it is, so that `fill` reports it.
    """
    found: dict[str, TensorSource] = {}
    for name in weights.names():
        owner, leaf = naming.module_and_leaf(name)
        place, target = _target(owner, places)
        if target is None:
            found[name] = weights.later(name)
            continue
        parts = {target: None} if isinstance(target, str) else target
        for part, change in parts.items():
            found[f"{place}{part}{leaf}"] = weights.later(name, change)
    return found


def _target(owner: str, places: Sequence[Place]) -> tuple[str, naming.Target | None]:
    for place in places:
        match = re.match(place.theirs, owner)
        if match is not None and owner[match.end() :] in place.modules:
            return match.expand(place.ours), place.modules[owner[match.end() :]]
    return "", None


def refuse_null(reader: ConfigReader, *keys: str) -> None:
    """Refuse keys that hold null, where diffusers takes that for something else than their default.

    Raises:
        UnsupportedConfig: one of them does.
    """
    for key in keys:
        if key in reader and reader.holds(key, type(None)):
            raise UnsupportedConfig(
                f"{reader.where} has {key} = null, which stands for another network than is built here. Use "
                "another checkpoint, or leave the key out where its default is meant."
            )


def _half(part: int) -> naming.Change:
    return lambda tensor: tensor.chunk(2)[part]


#: The modules of a resnet, and those of a gated feed-forward layer, whose halves are stored as one.
RESNET: Mapping[str, naming.Target] = {
    "norm1": "first_norm",
    "conv1": "first",
    "time_emb_proj": "time",
    "norm2": "second_norm",
    "conv2": "second",
    "conv_shortcut": "shortcut",
}
GATED: Mapping[str, naming.Target] = {
    "ff.net.0.proj": {"mlp.up": _half(0), "mlp.gate": _half(1)},
    "ff.net.2": "mlp.down",
}


def attention(theirs: str, ours: str) -> dict[str, naming.Target]:
    """Name the projections of an attention layer, by their names of today."""
    names = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "out"}
    return {f"{theirs}{old}": {f"{ours}.{new}": as_rows} for old, new in names.items()}


def old_attention(ours: str) -> dict[str, naming.Target]:
    """Name the same by what they were called at first."""
    names = {"query": "q", "key": "k", "value": "v", "proj_attn": "out"}
    return {old: {f"{ours}.{new}": as_rows} for old, new in names.items()}
