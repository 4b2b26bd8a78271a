"""Compare a decoder that reads images of any size with transformers' on the same files.

`GRID_DECODER_CASES` hands the largest difference of a logit to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.grid_decoder import GridDecoder
from cynosure.models.grid_positions import token_positions
from cynosure.models.grid_vision_spec import PatchGrid
from tests.models import image_oracle
from tests.models.encoder_oracle import gap
from tests.models.grid_decoder_cases import CASES, END_ID, IMAGE_ID, START_ID
from tests.models.image_oracle import Written, write

#: The images of each text: two of unequal sides, none, one.
GRIDS = ((PatchGrid(4, 6), PatchGrid(2, 2)), (), (PatchGrid(2, 8),))


@dataclass(frozen=True, eq=False)
class Pair(Written):
    """The oracle, our graph with the same weights, and what both read."""

    @property
    def graph(self) -> GridDecoder:
        assert isinstance(self.model.graph, GridDecoder)
        return self.model.graph

    @cached_property
    def patches(self) -> list[Tensor | None]:
        """The patches of each text's images."""
        dice = torch.Generator().manual_seed(5)
        width = self.graph.spec.image.patch_width
        counts = [sum(grid.height * grid.width for grid in grids) for grids in GRIDS]
        return [torch.randn(count, width, generator=dice) if count else None for count in counts]

    @cached_property
    def texts(self) -> list[list[int]]:
        """Words, each image between its marks, and words at the end."""
        dice = torch.Generator().manual_seed(7)
        merged = self.graph.spec.image.merge_size**2

        def words(count: int) -> list[int]:
            return torch.randint(3, END_ID, (count,), generator=dice).tolist()

        texts = []
        for grids in GRIDS:
            ids = []
            for grid in grids:
                places = [IMAGE_ID] * (grid.height * grid.width // merged)
                ids += [*words(5), START_ID, *places, END_ID]
            texts.append(ids + words(11))
        return texts

    @cached_property
    def expected(self) -> list[Tensor]:
        """The oracle's logits of each text by itself."""
        found = []
        for ids, grids, patches in zip(self.texts, GRIDS, self.patches, strict=True):
            tokens = torch.tensor([ids])
            given = {"input_ids": tokens}
            if patches is not None:
                sizes = torch.tensor([[1, grid.height, grid.width] for grid in grids])
                kinds = (tokens == IMAGE_ID).int()
                given |= {"pixel_values": patches, "image_grid_thw": sizes, "mm_token_type_ids": kinds}
            found.append(self.oracle(**given).logits[0])
        return found


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    return write(CASES[case_name], Pair)


def alone(pair: Pair, graph: GridDecoder | None = None) -> float:
    graph = graph or pair.graph
    worst = 0.0
    for ids, grids, patches, wanted in zip(pair.texts, GRIDS, pair.patches, pair.expected, strict=True):
        hidden = graph(graph.pack([ids], [grids]), patches=patches, grids=grids).hidden
        worst = max(worst, gap(graph.logits(hidden), wanted))
    return worst


def packed(pair: Pair) -> float:
    patches = torch.cat([one for one in pair.patches if one is not None])
    grids = [grid for grids in GRIDS for grid in grids]
    hidden = pair.graph(pair.graph.pack(pair.texts, GRIDS), patches=patches, grids=grids).hidden
    return max(map(gap, pair.graph.logits(hidden).split(list(map(len, pair.texts))), pair.expected))


def in_steps(pair: Pair) -> float:
    """All but the last words at once, and these one after the other: each where it is in the whole."""
    worst, spec = 0.0, pair.graph.spec
    for ids, grids, patches, wanted in zip(pair.texts, GRIDS, pair.patches, pair.expected, strict=True):
        places = token_positions(ids, grids, spec.image_token_id, spec.image.merge_size)
        cache = pair.graph.new_cache(1, len(ids))
        hidden = []
        cuts = [0, *range(len(ids) - 4, len(ids) + 1)]
        for start, stop in pairwise(cuts):
            batch = Batch.pack([ids[start:stop]], past_lens=[start], max_len=len(ids))
            batch = replace(batch, positions=places[:, start:stop])
            given = {} if start or patches is None else {"patches": patches, "grids": grids}
            hidden.append(pair.graph(batch, cache, **given).hidden)
        worst = max(worst, gap(pair.graph.logits(torch.cat(hidden)), wanted))
    return worst


CHECKS: dict[str, Callable[[Pair], float]] = {"alone": alone, "packed": packed, "in steps": in_steps}


def errors_of(case_name: str) -> dict[str, float]:
    """Run every check."""
    return image_oracle.errors_of(pair_of(case_name), CHECKS)


GRID_DECODER_CASES: dict[str, Callable[[], float]] = image_oracle.by_architecture(CASES, errors_of)
