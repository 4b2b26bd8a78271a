"""Compare a decoder that attends to tiles of images with transformers' on the same files.

`TILED_DECODER_CASES` hands the largest difference of a logit to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

from cynosure.models.batch import Batch
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, PlacedRows, with_images
from cynosure.models.image_reader import ImageMemory, prompt_of
from cynosure.models.tiled_decoder import TiledDecoder
from tests.models import image_oracle
from tests.models.encoder_oracle import gap
from tests.models.image_oracle import Written, write
from tests.models.tiled_decoder_cases import CASES, IMAGE_ID, VOCAB

#: The tiles of each text's images: words before the first, none, side by side and apart, at the start.
GRIDS = (((1, 3),), (), ((2, 1), (1, 1), (1, 3)), ((1, 1),))
#: Words before each image.
WORDS = ((5,), (), (2, 0, 3), (0,))


@dataclass(frozen=True, eq=False)
class Pair(Written):
    """The oracle, our graph with the same weights, and what both read."""

    @property
    def graph(self) -> TiledDecoder:
        assert isinstance(self.model.graph, TiledDecoder)
        return self.model.graph

    @cached_property
    def tiles(self) -> list[list[Tensor]]:
        """The tiles of each text's images."""
        dice = torch.Generator().manual_seed(5)
        side = self.graph.spec.image.tile_size
        return [
            [torch.randn(down * across, 3, side, side, generator=dice) for down, across in grids]
            for grids in GRIDS
        ]

    @cached_property
    def texts(self) -> list[list[int]]:
        """Words, each image's token behind some, and words at the end."""
        dice = torch.Generator().manual_seed(7)

        def words(count: int) -> list[int]:
            return torch.randint(3, VOCAB, (count,), generator=dice).tolist()

        return [[id_ for n in counts for id_ in (*words(n), IMAGE_ID)] + words(11) for counts in WORDS]

    @cached_property
    def expected(self) -> list[Tensor]:
        """The oracle's logits of each text by itself."""
        told = zip(self.texts, self.tiles, GRIDS, strict=True)
        return [self.oracle(**given(self.graph, ids, tiles, grids)).logits[0] for ids, tiles, grids in told]

    @cached_property
    def images(self) -> list[list[ImageInput]]:
        """The same as ours are given."""
        return [
            [ImageInput.of(one.numpy(), grid) for one, grid in zip(tiles, grids, strict=True)]
            for tiles, grids in zip(self.tiles, GRIDS, strict=True)
        ]


def given(
    graph: TiledDecoder, ids: Sequence[int], tiles: Sequence[Tensor], grids: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """What transformers' processor hands its model."""
    tokens = torch.tensor([list(ids)])
    if not tiles:
        return {"input_ids": tokens}
    spec = graph.spec.image
    pixels = torch.zeros(1, len(tiles), spec.max_tiles, 3, spec.tile_size, spec.tile_size)
    mask = torch.zeros(1, len(tiles), spec.max_tiles, dtype=torch.int64)
    for number, one in enumerate(tiles):
        pixels[0, number, : len(one)] = one
        mask[0, number, : len(one)] = 1
    places = get_cross_attention_token_mask(list(ids), IMAGE_ID)
    counts = [[len(one) for one in tiles]]
    seen = convert_sparse_cross_attention_mask_to_dense([places], counts, spec.max_tiles, len(ids))
    return {
        "input_ids": tokens,
        "pixel_values": pixels,
        "aspect_ratio_ids": torch.tensor([[spec.grids.index(grid) + 1 for grid in grids]]),
        "aspect_ratio_mask": mask,
        "cross_attention_mask": torch.tensor(seen),
    }


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    pair = write(CASES[case_name], Pair)
    _hide_from_words_before(pair.oracle)
    return pair


def _hide_from_words_before(oracle: torch.nn.Module) -> None:
    """Have words before all images take nothing from them, as in the code of the model's authors.

    There the output of attention is multiplied by 0 for such words (llama-models, `CrossAttention.forward`);
    transformers multiplies that of the feed-forward layer alone, so that they attend to all images, also to
    those that come later.
    """
    sees: list[Tensor | None] = [None]

    def note(module: object, args: object, told: dict[str, tuple[Tensor, ...] | None]) -> None:
        mask = told["full_text_row_masked_out_mask"]
        sees[0] = None if mask is None else mask[:, 0]

    def hide(module: object, args: object, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return output if sees[0] is None else (output[0] * sees[0], *output[1:])

    for module in oracle.modules():
        if isinstance(module, MllamaCrossAttentionDecoderLayer):
            module.register_forward_pre_hook(note, with_kwargs=True)
            module.cross_attn.register_forward_hook(hide)


def seen_by(
    graph: TiledDecoder, prompt: ImagePrompt, memory: ImageMemory, start: int, stop: int
) -> PlacedRows | None:
    """What tokens of a text read, whose images lie on a page each."""
    counts = [graph.num_kept(image) for image in prompt.images]
    return memory.placed(prompt, start, stop, lambda number: ((number,), counts[number]))


def alone(pair: Pair, graph: TiledDecoder | None = None) -> float:
    graph = graph or pair.graph
    worst = 0.0
    for ids, images, wanted in zip(pair.texts, pair.images, pair.expected, strict=True):
        prompt, memory = prompt_of(graph, ids, images), memory_of(graph, images)
        batch = with_images(Batch.pack([ids]), [seen_by(graph, prompt, memory, 0, len(ids))])
        worst = max(worst, gap(graph.logits(graph.text(batch).hidden), wanted))
    return worst


def packed(pair: Pair) -> float:
    """All texts in one batch, their images in one memory."""
    graph, every = pair.graph, [image for images in pair.images for image in images]
    memory, first, placed = memory_of(graph, every), 0, []
    for ids, images in zip(pair.texts, pair.images, strict=True):
        prompt = prompt_of(graph, ids, images)
        kept = [((first + number,), graph.num_kept(image)) for number, image in enumerate(images)]
        placed.append(memory.placed(prompt, 0, len(ids), kept.__getitem__))
        first += len(images)
    hidden = graph.text(with_images(Batch.pack(pair.texts), placed)).hidden
    return max(map(gap, graph.logits(hidden).split(list(map(len, pair.texts))), pair.expected))


def in_steps(pair: Pair) -> float:
    """Token by token through a cache: each sees the images that it sees in the whole."""
    worst, graph = 0.0, pair.graph
    for ids, images, wanted in zip(pair.texts, pair.images, pair.expected, strict=True):
        prompt, memory = prompt_of(graph, ids, images), memory_of(graph, images)
        cache, hidden = graph.new_cache(1, len(ids)), []
        for place in range(len(ids)):
            batch = Batch.pack([ids[place : place + 1]], past_lens=[place], max_len=len(ids))
            batch = with_images(batch, [seen_by(graph, prompt, memory, place, place + 1)])
            hidden.append(graph.text(batch, cache).hidden)
        worst = max(worst, gap(graph.logits(torch.cat(hidden)), wanted))
    return worst


def memory_of(graph: TiledDecoder, images: Sequence[ImageInput]) -> ImageMemory:
    """Pages of one image each."""
    memory = graph.new_memory(max(1, len(images)), graph.spec.image.max_tiles * graph.spec.image.num_tokens)
    for number, image in enumerate(images):
        assert memory.write(image, (number,))
    return memory


CHECKS: dict[str, Callable[[Pair], float]] = {"alone": alone, "packed": packed, "in steps": in_steps}


def errors_of(case_name: str) -> dict[str, float]:
    """Run every check."""
    return image_oracle.errors_of(pair_of(case_name), CHECKS)


TILED_DECODER_CASES: dict[str, Callable[[], float]] = image_oracle.by_architecture(CASES, errors_of)
