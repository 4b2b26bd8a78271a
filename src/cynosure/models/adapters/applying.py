"""Add low-rank pairs to the rows of those who asked for them, in a pass. Knows nothing of requests or files.

    y[rows] += (x[rows] @ down.T) @ up.T

Rows of nobody are not touched: they have the bits that they have without any adapter. What a native layer
does before its product (a norm) and after it (an activation, gate times up) is done again for the adapted
rows, around the products that the same packed weights give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.core.errors import EngineFault
from cynosure.models.adapters.adapter import Adapter, Pair
from cynosure.models.adapters.places import Places
from cynosure.models.decoder import Decoder
from cynosure.models.native_linear import NativeLinear

#: Which rows of a pass are an adapter's.
Rows: TypeAlias = Tensor | slice
#: The first column of a pair's share of a module's products, and the pair.
Seat: TypeAlias = tuple[int, Pair]


class Adapting:
    """One graph, and what its projections are adapted by while a pass runs. For one thread."""

    def __init__(self, graph: Decoder) -> None:
        """Hold a graph, before or after kernels replaced its layers."""
        self._places = Places(graph)

    @contextmanager
    def rows(self, adapters: Sequence[Adapter | None], lens: Sequence[int]) -> Iterator[None]:
        """Have one pass add to each sequence's rows what its adapter says; `lens` counts their tokens.

        Raises:
            EngineFault: a projection was not computed by the module that should; nothing of the pass counts.
        """
        owned = _rows_of(adapters, lens)
        seats: dict[nn.Module, list[tuple[Rows, list[Seat]]]] = defaultdict(list)
        for adapter, rows in owned.items():
            by_module: dict[nn.Module, list[Seat]] = defaultdict(list)
            for projection, pair in adapter.pairs.items():
                module, first = self._places.of(projection)
                by_module[module].append((first, pair))
            for module, of in by_module.items():
                seats[module].append((rows, of))
        called: list[nn.Module] = []
        handles = []
        try:
            for module, of in seats.items():
                handles.append(module.register_forward_hook(_adder(of, called, sum(lens))))
            yield
        finally:
            for handle in handles:
                handle.remove()
        # A module that somebody went around would leave its part out without a word.
        if len(called) != len(seats) or {*called} != {*seats}:
            raise EngineFault("an adapter was applied in part. Report it; serve this model without adapters.")


def _rows_of(adapters: Sequence[Adapter | None], lens: Sequence[int]) -> dict[Adapter, Rows]:
    """Return the rows of each adapter, those of all sequences that use it together."""
    found: dict[Adapter, list[tuple[int, int]]] = defaultdict(list)
    for adapter, (start, stop) in zip(adapters, pairwise(accumulate(lens, initial=0)), strict=True):
        if adapter is not None:
            found[adapter].append((start, stop))
    return {adapter: _joined(runs) for adapter, runs in found.items()}


def _joined(runs: Sequence[tuple[int, int]]) -> Rows:
    """Return rows that follow each other as a slice, which takes views of them."""
    if all(stop == start for (_, stop), (start, _) in pairwise(runs)):
        return slice(runs[0][0], runs[-1][1])
    return torch.cat([torch.arange(start, stop) for start, stop in runs])


def _adder(
    of: Sequence[tuple[Rows, Sequence[Seat]]], called: list[nn.Module], num_rows: int
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def add(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        called.append(module)
        if inputs[0].dim() != 2 or len(inputs[0]) != num_rows:
            raise EngineFault(
                "a projection reads other rows than its pass has. Report it; leave adapters out."
            )
        for rows, seats in of:
            x = inputs[0][rows]
            if isinstance(module, NativeLinear) and module.has_activation:
                out[rows] = _activated(module, x, seats).to(out.dtype)
                continue
            read = module.normed(x) if isinstance(module, NativeLinear) else x.float()
            for first, pair in seats:
                columns = slice(first, first + len(pair.up))
                out[rows, columns] = (out[rows, columns] + _product(read, pair)).to(out.dtype)

    return add


def _activated(
    module: NativeLinear, x: Float[Tensor, "rows width"], seats: Sequence[Seat]
) -> Float[Tensor, "rows out"]:
    """Return what a layer with an activation gives rows whose products are adapted before it."""
    products, read = module.products(x), module.normed(x)
    for first, pair in seats:
        products[:, first : first + len(pair.up)] += _product(read, pair)
    return module.activated(products)


def _product(x: Float[Tensor, "rows width"], pair: Pair) -> Float[Tensor, "rows out"]:
    return (x @ pair.down.t()) @ pair.up.t()
