"""Put coded layers in the place of plain ones, and name their codes. Knows nothing of any family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import checked
from cynosure.models.moe import ClampedExperts
from cynosure.models.quantize.code_format import Coded, CodeFormat
from cynosure.models.quantize.codes import quantise
from cynosure.models.quantize.layers import QuantEmbedding, QuantLinear
from cynosure.models.quantize.scheme import QuantScheme

T = TypeVar("T", bound=nn.Module)

#: The projection to the vocabulary, in every graph that has one; an encoder's answers hang below it.
HEAD = "head"


def quantise_graph(graph: nn.Module, scheme: QuantScheme, dtype: torch.dtype) -> None:
    """Replace the projections of a graph that is still on the meta device.

    Args:
        graph: changed in place.
        scheme: which code each gets.
        dtype: what the model computes in.

    Raises:
        UnsupportedConfig: a layer can't be kept in this code; the message names it.
    """
    embeddings = {id(module.weight): name for name, module in _all(graph, nn.Embedding)}
    for name, module in _all(graph, ClampedExperts):
        raise UnsupportedConfig(
            f"{name} keeps its experts in stacks, {type(module).__name__}; those are not quantised here. "
            "Load the checkpoint without."
        )
    with torch.device("meta"):
        for name, linear in _all(graph, nn.Linear):
            if name.startswith(f"{HEAD}."):
                continue
            form = scheme.head if name == HEAD else scheme.body
            form.check(name, linear.in_features)
            coded = QuantLinear(form, linear.in_features, linear.out_features, linear.bias)
            graph.set_submodule(name, coded)
            tied = embeddings.get(id(linear.weight))
            if tied is not None:
                table = QuantEmbedding(form, linear.out_features, linear.in_features, dtype)
                table.share(coded)
                graph.set_submodule(tied, table)


def coded_sources(graph: nn.Module, tensors: Mapping[str, TensorSource]) -> dict[str, TensorSource]:
    """Return `tensors` with codes and scales in the place of each weight that `graph` keeps in codes.

    A weight is read and quantised when `fill` asks for its codes; its scale waits until it is asked for.

    Raises:
        CheckpointError: when they are asked for: the weight is damaged.
    """
    found = dict(tensors)
    for name, module in coded_layers(graph):
        source = found.pop(f"{name}.weight", None)
        if source is not None:
            codes, scale = _both(f"{name}.weight", source, module)
            found[f"{name}.codes"], found[f"{name}.scale"] = codes, scale
    return found


def coded_layers(graph: nn.Module) -> Iterator[tuple[str, QuantLinear | QuantEmbedding]]:
    """Yield the layers that hold codes."""
    yield from _all(graph, QuantEmbedding)
    yield from _all(graph, QuantLinear)


def _both(
    name: str, source: TensorSource, module: QuantLinear | QuantEmbedding
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    waiting: list[Coded] = []
    # Not the module: it will hold the codes, and whoever holds these functions would keep them in memory.
    form: CodeFormat = module.form
    like = torch.empty(module.num_rows, module.width, device="meta")

    def codes() -> Tensor:
        coded = quantise(checked(name, source, like, None), form)
        waiting.append(coded)
        return coded.codes

    def scale() -> Tensor:
        if not waiting:
            codes()
        return waiting.pop().scale

    return codes, scale


def _all(graph: nn.Module, kind: type[T]) -> list[tuple[str, T]]:
    return [(name, module) for name, module in graph.named_modules() if isinstance(module, kind)]
