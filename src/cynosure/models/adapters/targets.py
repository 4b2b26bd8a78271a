"""Say which of a graph's projections a checkpoint's module becomes, row by row. Knows no adapter's files.

A family's naming table splits fused modules and turns stored ones round. Tables are functions of tensors, so
one is asked by what it makes of a tensor that holds its own places: where it only picks rows, a low-rank pair
of the module becomes one of each projection, with the same rows of the half that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor, nn

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.checkpoint import Later, Weights
from cynosure.models.decoder import Decoder
from cynosure.models.safetensor_files import TensorEntry

_WEIGHT = ".weight"
#: What a naming table makes of a tensor as it reads it.
Change: TypeAlias = Callable[[Tensor], Tensor]
#: Rows of a module that becomes one projection as it is.
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Share:
    """A projection of the graph, and which rows of a module's product are its own."""

    projection: str
    rows: Int[Tensor, " out"] | slice


@dataclass(frozen=True)
class Shape:
    """How wide a module's product is, and what it reads."""

    out_features: int
    in_features: int


class _Named(Weights):
    """Tensors that have names and shapes, and hold nothing: a naming table asks for no more."""

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """An empty tensor on the meta device."""
        return torch.empty(self.shape(name), dtype=dtype, device="meta")


class Base:
    """What adapters are made for: an architecture with its sizes. Holds no weights."""

    def __init__(self, brand: Brand, spec: Any) -> None:  # noqa: ANN401 - each brand's own
        """Build the graph on the meta device.

        Raises:
            UnsupportedConfig: the model is no decoder.
        """
        if brand.kind is not ModelKind.DECODER:
            raise UnsupportedConfig(
                f"{brand.architecture} is of kind {brand.kind.value}; adapters are served for decoders only. "
                "Merge the adapter into its model."
            )
        self.brand = brand
        self.spec = spec
        with torch.device("meta"):
            graph = brand.build(spec)
        assert isinstance(graph, Decoder)
        self.projections: Mapping[str, Shape] = {
            name: Shape(module.out_features, module.in_features)
            for name, module in graph.layers.named_modules(prefix="layers")
            if isinstance(module, nn.Linear)
        }

    def shares(self, modules: Mapping[str, Shape], where: str) -> dict[str, tuple[Share, ...]]:
        """Return what each module of the checkpoint becomes, by the modules' names.

        Raises:
            UnsupportedConfig: a module is none of this architecture's, has other sizes, or is one that no
                pair can be added to; the message names it and begins with `where`.
        """
        entries = {name + _WEIGHT: _entry(shape) for name, shape in modules.items()}
        found: dict[str, list[Share]] = {name: [] for name in modules}
        # Of this call alone: tables make functions anew each time they are asked.
        known: dict[tuple[Change, Shape], Int[Tensor, " out"] | None] = {}
        for ours, source in self.brand.rename(self.spec, _Named(entries)).items():
            if not isinstance(source, Later) or not source.name.endswith(_WEIGHT):
                continue
            module = source.name.removesuffix(_WEIGHT)
            projection = ours.removesuffix(_WEIGHT)
            if projection in self.projections and ours.endswith(_WEIGHT):
                change, shape = source.change, modules[module]
                if change is not None and (change, shape) not in known:
                    known[change, shape] = rows_of(change, shape)
                rows = _ALL if change is None else known[change, shape]
                found[module].append(self._share(projection, module, shape, rows, where))
        for module, shares in found.items():
            self._check(module, shares, where)
        return {module: tuple(shares) for module, shares in found.items()}

    def _share(
        self,
        projection: str,
        module: str,
        shape: Shape,
        rows: Int[Tensor, " out"] | slice | None,
        where: str,
    ) -> Share:
        wanted = self.projections[projection]
        num_rows = shape.out_features if isinstance(rows, slice) else -1 if rows is None else len(rows)
        if rows is None or (num_rows, shape.in_features) != (wanted.out_features, wanted.in_features):
            raise UnsupportedConfig(
                f"{where} has a pair of {shape.in_features} to {shape.out_features} for {module}, which "
                f"can't be added to {projection} of {wanted.in_features} to {wanted.out_features}. It was "
                "made for another model, or its module is kept in another form here: merge it into its model."
            )
        return Share(projection, rows)

    def _check(self, module: str, shares: list[Share], where: str) -> None:
        if not shares:
            raise UnsupportedConfig(
                f"{where} targets {module}, which is no projection in a layer of {self.brand.architecture}. "
                "Embeddings and heads can't be adapted here; merge the adapter into its model."
            )
        if any(".experts." in share.projection for share in shares):
            raise UnsupportedConfig(
                f"{where} targets {module}, an expert that computes some tokens only; experts can't be "
                "adapted here. Merge the adapter into its model."
            )


def rows_of(change: Change, shape: Shape) -> Int[Tensor, " out"] | None:
    """Return which rows of a module's product a naming table's change picks; `None` where it does more.

    The weight may be stored as `[out, in]` or turned round; only one of the two can be what the table reads.
    """
    places = torch.arange(shape.out_features * shape.in_features).view(shape.out_features, shape.in_features)
    columns = torch.arange(shape.in_features)
    for stored in (places, places.t()):
        try:
            picked = change(stored)
        except (RuntimeError, IndexError, ValueError):
            continue
        if picked.dim() != 2 or picked.shape[1] != shape.in_features:
            continue
        rows = picked[:, 0] // shape.in_features
        if torch.equal(picked, rows[:, None] * shape.in_features + columns):
            return rows
    return None


def _entry(shape: Shape) -> TensorEntry:
    """A tensor that is named and never read."""
    num_bytes = 4 * shape.out_features * shape.in_features
    return TensorEntry(Path(), "F32", (shape.out_features, shape.in_features), 0, num_bytes)
