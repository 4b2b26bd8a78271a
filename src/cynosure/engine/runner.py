"""Run scheduled tokens through a decoder over pages. Knows nothing of requests, policy or sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import PagedCache
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder


@dataclass(frozen=True)
class Work:
    """New tokens of one sequence: `token_ids` follow `past_len` others, in these pages.

    `num_logits` rows are wanted, those of the last tokens.
    """

    token_ids: tuple[int, ...]
    past_len: int
    blocks: tuple[int, ...]
    num_logits: int


class Runner:
    """A decoder and the pages that it writes."""

    def __init__(self, graph: Decoder, cache: PagedCache, backend: str = "auto") -> None:
        """Hold both."""
        self.graph = graph
        self.cache = cache
        self.backend = backend

    @torch.inference_mode()
    def run(self, work: Sequence[Work]) -> list[Float[Tensor, "rows vocab"]]:
        """Compute all work in one pass; return the wanted rows of each, in float32."""
        batch = Batch.pack(
            [item.token_ids for item in work],
            past_lens=[item.past_len for item in work],
            block_tables=[item.blocks for item in work],
        )
        hidden = self.graph(batch, self.cache, backend=self.backend).hidden
        stops = batch.plan.queries.offsets[1:]
        wanted = [
            row for stop, item in zip(stops, work, strict=True) for row in range(stop - item.num_logits, stop)
        ]
        # No row is wanted while prompts are halfway.
        logits = self.graph.logits(hidden[torch.tensor(wanted, dtype=torch.int64)]).float()
        return list(logits.split([item.num_logits for item in work]))
