"""Keep bounds of pages, and have a program's layers attend to the pages that they choose. Knows no requests.

Bounds of a page are learnt when a sequence first chooses among pages with it, which reads its keys once, and
kept until the page is written to. So pages that were found in the prefix tree serve as well as those just
computed, and passes that choose nothing pay nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import BFloat16, Int
from numpy.typing import NDArray
from torch import Tensor

from cynosure.attention import AttentionSpec
from cynosure.attention.native_pages import learn_natively, lowered_choice
from cynosure.attention.page_choice import NUM_FIRST, NUM_LAST, PageChoice, refusal_of_choice
from cynosure.cache import LayerShape, PagedCache
from cynosure.kernels.page_choice import CPageChoice
from cynosure.kernels.program import CPages
from cynosure.models.decoder import Decoder
from cynosure.models.forward_pass import paged_source
from cynosure.models.native.layer import NativeLayer

BOUNDS = torch.bfloat16


@dataclass(frozen=True)
class ChosenPages:
    """How many pages a sequence attends to; where it is checked, it attends to all, and compares."""

    num_pages: int
    is_checked: bool


class Recall(NamedTuple):
    """The share of the attention that the chosen pages have: over all heads that chose, and of the worst."""

    mean: float
    least: float


def bounds_bytes(shapes: Sequence[LayerShape]) -> int:
    """Return what the bounds of one page take in all layers at most."""
    return sum(2 * shape.num_kv_heads * shape.head_dim * BOUNDS.itemsize for shape in shapes)


def refusal_of_choosing(graph: Decoder) -> str:
    """Say why no layer chooses pages; empty where one does. The layers are a program."""
    refusals = [refusal_of_choice(spec) for spec in _specs_of(graph)]
    return "" if not all(refusals) else f"no layer can: of layer 0, {refusals[0]}"


@final
class PageChooser:
    """Bounds of all pages, in the layers that can choose; others attend to all of theirs."""

    def __init__(self, graph: Decoder, cache: PagedCache) -> None:
        """Reserve the bounds; `refusal_of_choosing` was empty."""
        self._cache = cache
        self._is_known = np.zeros(cache.num_blocks, dtype=bool)
        self._num_heads: dict[int, int] = {}
        self._bounds: dict[int, Tensor] = {}
        self._sources = {}
        for layer, spec in enumerate(_specs_of(graph)):
            if refusal_of_choice(spec):
                continue
            heads = spec.heads
            self._num_heads[layer] = heads.num_heads
            shape = (cache.num_blocks, heads.num_kv_heads, 2, heads.head_dim)
            self._bounds[layer] = torch.empty(shape, dtype=BOUNDS)
            self._sources[layer] = paged_source(cache, layer, graph.dtype)

    def forget(self, blocks: Iterable[int]) -> None:
        """Know no bounds of pages that are written to, or hold something else now."""
        self._is_known[list(blocks)] = False

    def choose(
        self,
        chosen: Sequence[ChosenPages | None],
        num_tokens: Sequence[int],
        block_tables: Sequence[Sequence[int]],
    ) -> Choosing:
        """Return what a pass chooses, with all bounds that it looks at.

        Args:
            chosen: of each sequence; `None` attends to all.
            num_tokens: of each sequence, the new ones included.
            block_tables: the pages of each.
        """
        for item, count, blocks in zip(chosen, num_tokens, block_tables, strict=True):
            total = -(-count // self._cache.block_size)
            if item is not None and item.num_pages < total:
                self._learn(np.array(blocks[NUM_FIRST : total - NUM_LAST], dtype=np.int64))
        num_pages = torch.tensor([0 if item is None else item.num_pages for item in chosen])
        is_checked = torch.tensor([int(item is not None and item.is_checked) for item in chosen])
        return Choosing(self._bounds, self._num_heads, num_pages, is_checked)

    def _learn(self, blocks: NDArray[np.int64]) -> None:
        unknown = blocks[~self._is_known[blocks]]
        if not len(unknown):
            return
        for layer, bounds in self._bounds.items():
            learn_natively(self._sources[layer], torch.from_numpy(unknown), bounds)
        self._is_known[unknown] = True


@final
class Choosing:
    """What the layers of one pass choose by, and what they recall."""

    def __init__(
        self,
        bounds: Mapping[int, BFloat16[Tensor, "num_blocks h_kv 2 d"]],
        num_heads: Mapping[int, int],
        num_pages: Int[Tensor, " num_seqs"],
        is_checked: Int[Tensor, " num_seqs"],
    ) -> None:
        """Make the structs, from each layer's bounds and query heads; see `PageChoice` for the rest."""
        self._is_checked: list[int] = is_checked.tolist()
        counts = [num_heads[layer] for layer in bounds]
        # One piece of memory: a step has a few microseconds for all layers.
        self._shares = torch.ones(len(self._is_checked) * sum(counts)).split(
            [len(self._is_checked) * count for count in counts]
        )
        first = PageChoice(next(iter(bounds.values())), num_pages, is_checked)
        self._alive = first
        like = lowered_choice(first, self._shares[0].view(len(self._is_checked), -1))
        self._structs: dict[int, CPageChoice] = {}
        for (layer, own), shares in zip(bounds.items(), self._shares, strict=True):
            struct = self._structs[layer] = CPageChoice.from_buffer_copy(like)
            struct.bounds, struct.recalled = own.data_ptr(), shares.data_ptr()

    def begin(self, pages: Mapping[int, CPages]) -> None:
        """Have the layers of a program choose."""
        for layer, struct in self._structs.items():
            pages[layer].choice = ctypes.addressof(struct)

    def end(self, pages: Mapping[int, CPages]) -> tuple[Recall | None, ...]:
        """Have them attend to all again; return what was recalled of each sequence that was checked."""
        for layer in self._structs:
            pages[layer].choice = None
        if not any(self._is_checked):
            return (None,) * len(self._is_checked)
        shares = torch.cat([one.view(len(self._is_checked), -1) for one in self._shares], 1)
        means, least = shares.mean(1).tolist(), shares.amin(1).tolist()
        return tuple(
            Recall(mean, low) if checked else None
            for checked, mean, low in zip(self._is_checked, means, least, strict=True)
        )


def _specs_of(graph: Decoder) -> list[AttentionSpec]:
    specs = []
    for layer in graph.layers:
        assert isinstance(layer, NativeLayer)
        assert layer.attention is not None
        specs.append(layer.attention.spec.attention)
    return specs
