"""Compare a decoder that reads images with transformers' on the same files: at once, in a batch, in steps.

`IMAGE_DECODER_CASES` hands the largest difference of a logit to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.image_decoder import ImageDecoder
from tests.models import image_oracle
from tests.models.encoder_oracle import gap
from tests.models.image_decoder_cases import CASES, IMAGE_ID
from tests.models.image_oracle import Written, write

#: Images in each text: none, one, and two.
NUM_IMAGES = (2, 0, 1)


@dataclass(frozen=True, eq=False)
class Pair(Written):
    """The oracle, our graph with the same weights, and what both read."""

    @property
    def graph(self) -> ImageDecoder:
        assert isinstance(self.model.graph, ImageDecoder)
        return self.model.graph

    @cached_property
    def pixels(self) -> list[Tensor | None]:
        """The images of each text."""
        side = self.graph.spec.image.patches.image_size
        dice = torch.Generator().manual_seed(5)
        return [torch.randn(n, 3, side, side, generator=dice) if n else None for n in NUM_IMAGES]

    @cached_property
    def texts(self) -> list[list[int]]:
        """Words, the places of each image behind some, and words at the end."""
        dice = torch.Generator().manual_seed(7)

        def words(count: int) -> list[int]:
            return torch.randint(3, IMAGE_ID, (count,), generator=dice).tolist()

        places = [IMAGE_ID] * self.graph.spec.num_image_tokens
        return [[id_ for _ in range(n) for id_ in (*words(5), *places)] + words(11) for n in NUM_IMAGES]

    @cached_property
    def expected(self) -> list[Tensor]:
        """The oracle's logits of each text by itself."""
        return [
            self.oracle(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0]
            for ids, pixels in zip(self.texts, self.pixels, strict=True)
        ]

    @property
    def all_pixels(self) -> Tensor:
        """The images of all texts, in order."""
        return torch.cat([pixels for pixels in self.pixels if pixels is not None])


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    return write(CASES[case_name], Pair)


def alone(pair: Pair, graph: ImageDecoder | None = None) -> float:
    graph = graph or pair.graph
    worst = 0.0
    for ids, pixels, wanted in zip(pair.texts, pair.pixels, pair.expected, strict=True):
        worst = max(worst, gap(graph.logits(graph(Batch.pack([ids]), pixels=pixels).hidden), wanted))
    return worst


def packed(pair: Pair) -> float:
    hidden = pair.graph(Batch.pack(pair.texts), pixels=pair.all_pixels).hidden
    parts = pair.graph.logits(hidden).split(list(map(len, pair.texts)))
    return max(map(gap, parts, pair.expected))


def in_steps(pair: Pair) -> float:
    """All but the last words at once, and these one after the other through a cache."""
    worst = 0.0
    for ids, pixels, wanted in zip(pair.texts, pair.pixels, pair.expected, strict=True):
        cache = pair.graph.new_cache(1, len(ids))
        first = len(ids) - 4
        batch = Batch.pack([ids[:first]], past_lens=[0], max_len=len(ids))
        hidden = [pair.graph(batch, cache, pixels=pixels).hidden]
        for place in range(first, len(ids)):
            step = Batch.pack([ids[place : place + 1]], past_lens=[place], max_len=len(ids))
            hidden.append(pair.graph(step, cache).hidden)
        worst = max(worst, gap(pair.graph.logits(torch.cat(hidden)), wanted))
    return worst


CHECKS: dict[str, Callable[[Pair], float]] = {"alone": alone, "packed": packed, "in steps": in_steps}


def errors_of(case_name: str) -> dict[str, float]:
    """Run every check."""
    return image_oracle.errors_of(pair_of(case_name), CHECKS)


IMAGE_DECODER_CASES: dict[str, Callable[[], float]] = image_oracle.by_architecture(CASES, errors_of)
