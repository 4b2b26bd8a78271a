"""Compare a decoder that reads images of any size with transformers' on the same files.

`GRID_DECODER_CASES` hands the largest difference of a logit to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from pathlib import Path

import torch
import transformers
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.grid_decoder import GridDecoder
from cynosure.models.grid_positions import token_positions
from cynosure.models.grid_vision_spec import PatchGrid
from cynosure.models.load import load
from tests.models.encoder_oracle import gap
from tests.models.grid_decoder_cases import CASES, END_ID, IMAGE_ID, START_ID
from tests.models.vision_cases import Case
from tests.models.vision_oracle import randomise

TOLERANCE = 1e-4
#: The images of each text: two of unequal sides, none, one.
GRIDS = ((PatchGrid(4, 6), PatchGrid(2, 2)), (), (PatchGrid(2, 8),))


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, and our graph with the same weights."""

    case: Case
    oracle: transformers.PreTrainedModel
    graph: GridDecoder
    folder: Path

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
    return make_pair(CASES[case_name])


@torch.no_grad()
def make_pair(case: Case) -> Pair:
    """Write a random checkpoint to disk, and load it back."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, case.architecture)
    config = model_class.config_class(**deepcopy(case.settings), attn_implementation="eager")
    oracle = model_class(config).eval()
    randomise(oracle, case.seed)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    graph = load(folder, dtype="float32").graph
    assert isinstance(graph, GridDecoder)
    return Pair(case, oracle, graph, folder)


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


@torch.no_grad()
def errors_of(pair: Pair) -> dict[str, float]:
    """Run every check."""
    return {name: check(pair) for name, check in CHECKS.items()}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    return max(max(errors_of(pair_of(name)).values()) for name in names)


GRID_DECODER_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
