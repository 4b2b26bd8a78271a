"""Run scheduled tokens through a decoder over pages. Knows nothing of requests, policy or sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.cache import PagedCache
from cynosure.kernels.linear import Way
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.native.graph import fix_way
from cynosure.models.native.passes import NativePasses, PartTime, refusal_of_passes

REPRODUCIBLE_WAY = Way.TILES
"""Bits of a row differ between the ways of computing, not within one."""


@dataclass(frozen=True)
class Work:
    """New tokens of one sequence: `token_ids` follow `past_len` others, in these pages.

    `num_logits` rows are wanted, those of the last tokens. Where it `is_reproducible`, products are computed
    in one way, however many rows stand in the pass.
    """

    token_ids: tuple[int, ...]
    past_len: int
    blocks: tuple[int, ...]
    num_logits: int
    is_reproducible: bool = False


class Runner:
    """A decoder and the pages that it writes.

    `refusal` says why passes are not one program of kernel calls; empty where they are.
    """

    def __init__(self, graph: Decoder, cache: PagedCache, backend: str = "auto") -> None:
        """Hold both."""
        self.graph = graph
        self.cache = cache
        self.backend = backend
        self.refusal = refusal_of_passes(graph, cache)
        self._passes = None if self.refusal else NativePasses(graph, cache, backend)

    @torch.inference_mode()
    def run(self, work: Sequence[Work]) -> list[Float[Tensor, "rows vocab"]]:
        """Compute all work in one pass; return the wanted rows of each, in float32, until the next pass."""
        batch = Batch.pack(
            [item.token_ids for item in work],
            past_lens=[item.past_len for item in work],
            block_tables=[item.blocks for item in work],
        )
        stops = accumulate(len(item.token_ids) for item in work)
        rows = [
            row for stop, item in zip(stops, work, strict=True) for row in range(stop - item.num_logits, stop)
        ]
        # No row is wanted while prompts are halfway.
        wanted = torch.tensor(rows, dtype=torch.int64)
        way = REPRODUCIBLE_WAY if any(item.is_reproducible for item in work) else Way.AUTO
        logits = None if self._passes is None else self._passes.run(batch, wanted, way)
        if logits is None:
            logits = self._by_modules(batch, wanted, way)
        return list(logits.split([item.num_logits for item in work]))

    def time_passes(self) -> None:
        """From now on, measure what the parts of each pass take."""
        if self._passes is not None:
            self._passes.is_timed = True

    @property
    def times(self) -> tuple[PartTime, ...]:
        """What the parts of the last pass took, where passes are one program and timed."""
        return () if self._passes is None else self._passes.times

    def _by_modules(
        self, batch: Batch, wanted: Int[Tensor, " rows"], way: Way
    ) -> Float[Tensor, "rows vocab"]:
        if way is not Way.AUTO:
            fix_way(self.graph, way)
        hidden = self.graph(batch, self.cache, backend=self.backend).hidden
        logits = self.graph.logits(hidden[wanted]).float()
        if way is not Way.AUTO:
            fix_way(self.graph, Way.AUTO)
        return logits
