"""Find where a graph computes each projection: in a module of its own, or in a native one. Adds nothing."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from cynosure.models.decoder import Decoder
from cynosure.models.native.experts import NativeMoe
from cynosure.models.native.layer import NativeAttention, NativeLayer
from cynosure.models.native.mlp import NativeMlp


class Place(NamedTuple):
    """The module that computes a projection, and which column of its products is the projection's first."""

    module: nn.Module
    first: int


class Places:
    """The projections of one graph, by the names that it has before kernels replace its layers."""

    def __init__(self, graph: Decoder) -> None:
        """Look at nothing yet."""
        self._graph = graph
        self._found: dict[str, Place] = {}

    def of(self, projection: str) -> Place:
        """Return where a projection is computed; it is one of the graph's."""
        if projection not in self._found:
            self._found[projection] = self._place(projection)
        return self._found[projection]

    def _place(self, projection: str) -> Place:
        _, index, part = projection.split(".", 2)
        layer = self._graph.layers[int(index)]
        if isinstance(layer, NativeLayer):
            if layer.attention is not None and part.startswith("attention."):
                return _in_attention(layer.attention, part.removeprefix("attention."))
            if layer.mlp is not None and part.startswith("mlp."):
                return _in_mlp(layer.mlp, part.removeprefix("mlp."))
            layer = layer.plain
        return Place(layer.get_submodule(part), 0)


def _in_attention(attention: NativeAttention, part: str) -> Place:
    if part == "o":
        return Place(attention.o, 0)
    heads = attention.spec.attention.heads
    q, k = heads.num_heads * heads.head_dim, heads.num_kv_heads * heads.head_dim
    return Place(attention.qkv, {"q": 0, "k": q, "v": q + k}[part])


def _in_mlp(mlp: NativeMlp | NativeMoe, part: str) -> Place:
    if isinstance(mlp, NativeMoe):
        assert mlp.shared is not None, "adapters of experts are refused"
        return _in_mlp(mlp.shared, part.removeprefix("shared."))
    if part == "down":
        return Place(mlp.down, 0)
    return Place(mlp.inner, mlp.inner.out_features if part == "up" and mlp.inner.is_gated else 0)
