"""Find the keys whose products with a query are largest. Knows nothing of values, scores or softmax."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.core.errors import MissingPackage, UnknownOption


class KeySearch(ABC):
    """An index over the keys of a memory, built once and searched at every step."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the keys that were indexed, `(rows, num_kv_heads, head_dim)`."""

    @abstractmethod
    def best(self, q: Float[Tensor, "h n d"], count: int) -> Int[Tensor, "h n count"]:
        """Return the rows of the largest products found for each query and head; -1 where there are fewer.

        A head searches the keys of the K/V head that it shares.
        """


@final
class FaissSearch(KeySearch):
    """Search by inner products with FAISS (arXiv 2401.08281), one index a K/V head.

    Args:
        keys: all keys of the memory; they are copied in float32.
        kind: which index, in the words of FAISS's `index_factory`: `Flat` is exact, `IVF256,Flat` looks at a
            few of 256 lists, `HNSW32` walks a graph.
        parameters: how hard it looks, such as `nprobe=8` or `efSearch=64`.

    Raises:
        MissingPackage: FAISS is not installed.
        UnknownOption: FAISS knows no such index or parameter, or needs more keys for it.
    """

    def __init__(self, keys: Float[Tensor, "rows h d"], kind: str = "Flat", parameters: str = "") -> None:
        """Train and fill the indices."""
        self._shape = tuple(keys.shape)
        faiss = _faiss()
        try:
            self._indices = [
                _index(faiss, _rows(keys[:, head]), kind, parameters) for head in range(keys.shape[1])
            ]
        except RuntimeError as error:
            raise UnknownOption(
                f"FAISS builds no index of kind {kind!r} with {parameters!r} over {keys.shape[0]} keys: "
                f"{str(error).splitlines()[0]}. Choose another."
            ) from error

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the keys that were indexed."""
        return self._shape

    def best(self, q: Float[Tensor, "h n d"], count: int) -> Int[Tensor, "h n count"]:
        """Return the rows of the largest products found."""
        num_heads, num_rows, _ = q.shape
        if not count:
            return torch.empty(num_heads, num_rows, 0, dtype=torch.int64, device=q.device)
        groups = q.unflatten(0, (len(self._indices), -1)).flatten(1, 2)
        found = [
            index.search(_rows(group), count)[1] for index, group in zip(self._indices, groups, strict=True)
        ]
        return torch.from_numpy(np.stack(found)).reshape(num_heads, num_rows, count).to(q.device)


def _index(faiss: ModuleType, rows: np.ndarray, kind: str, parameters: str) -> Any:  # noqa: ANN401
    index = faiss.index_factory(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(rows)
    index.add(rows)
    if parameters:
        faiss.ParameterSpace().set_index_parameters(index, parameters)
    return index


def _rows(keys: Float[Tensor, "rows d"]) -> np.ndarray:
    return keys.float().cpu().contiguous().numpy()


def _faiss() -> ModuleType:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingPackage(
            "searching a memory by FAISS needs the package faiss-cpu. Install cynosure[memory], or leave the "
            "search out: then every key is scored."
        ) from error
