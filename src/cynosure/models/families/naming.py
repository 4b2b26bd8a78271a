"""Map a checkpoint's tensor names onto a graph's. Knows nothing of any family, and reads no tensor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from torch import Tensor

from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import Weights

Change: TypeAlias = Callable[[Tensor], Tensor]
#: A module's name in the graph; or the several that its tensor is split into, each with its share.
Target: TypeAlias = str | Mapping[str, Change | None]

_NUMBERED = re.compile(r"(?P<stack>.*?)(?P<index>\d+)\.(?P<rest>.+)")


def rename(
    weights: Weights,
    outer: Mapping[str, Target],
    inner: Mapping[str, Target],
    *,
    stack: str,
    prefix: str = "",
) -> dict[str, TensorSource]:
    """Return the graph's names with the tensors that belong there.

    A name that neither table knows stays as it is, so that `fill` reports it.

    Args:
        weights: the checkpoint.
        outer: modules outside of the layers, theirs to ours; names end before `.weight` or `.bias`.
        inner: modules of a layer, without its number.
        stack: what stands before a layer's number, such as `layers.`.
        prefix: what every name but the head's may begin with, such as `model.`.
    """
    return _renamed(weights, weights.names(), outer, inner, (stack, prefix, ""))


def rename_part(
    weights: Weights,
    outer: Mapping[str, Target],
    inner: Mapping[str, Target],
    *,
    stack: str,
    source: str,
    target: str,
) -> dict[str, TensorSource]:
    """Return what `rename` does, of the tensors below `source` alone, by their names below `target`."""
    names = [name for name in weights.names() if name.startswith(source)]
    return _renamed(weights, names, outer, inner, (stack, source, target))


def _renamed(
    weights: Weights,
    names: Iterable[str],
    outer: Mapping[str, Target],
    inner: Mapping[str, Target],
    places: tuple[str, str, str],
) -> dict[str, TensorSource]:
    found: dict[str, TensorSource] = {}
    stack, source, below = places
    for name in names:
        short = name.removeprefix(source)
        layer = _NUMBERED.fullmatch(short)
        if layer is not None and layer["stack"] == stack:
            place, table, short = f"layers.{layer['index']}.", inner, layer["rest"]
        else:
            place, table = "", outer
        owner, leaf = module_and_leaf(short)
        target = table.get(owner)
        if target is None:
            found[name] = weights.later(name)
            continue
        parts = {target: None} if isinstance(target, str) else target
        for part, change in parts.items():
            found[f"{below}{place}{part}{leaf}"] = weights.later(name, change)
    return found


def module_and_leaf(name: str) -> tuple[str, str]:
    """Split `a.b.weight` into `a.b` and `.weight`; a name that ends otherwise is all module."""
    owner, dot, leaf = name.rpartition(".")
    return (owner, f".{leaf}") if leaf in ("weight", "bias") and dot else (name, "")


def rows(start: int, stop: int) -> Change:
    """Return a change that takes the output rows `start:stop` of a fused weight or bias: a view."""
    return lambda tensor: tensor[start:stop]


def grouped(num_heads: int, num_kv_heads: int) -> dict[str, Change | None]:
    """Return the parts of a projection fused by K/V head: the queries of a group, then its key and its value.

    With as many K/V heads as heads that is q, k, v of each head in turn; with one, all queries come first.
    """
    num_parts = num_heads // num_kv_heads + 2

    def part(start: int, stop: int) -> Change:
        def change(tensor: Tensor) -> Tensor:
            return tensor.unflatten(0, (num_kv_heads, num_parts, -1))[:, start:stop].flatten(0, 2)

        return change

    return {
        "attention.q": part(0, num_parts - 2),
        "attention.k": part(num_parts - 2, num_parts - 1),
        "attention.v": part(num_parts - 1, num_parts),
    }
