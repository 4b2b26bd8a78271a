"""Ask tiny models about images, in ours and in transformers' way. Knows nothing of what must hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cynosure.models.image_input import ImageInput
from cynosure.models.image_reader import ImageReader
from cynosure.models.load import LanguageModel
from cynosure.models.tiled_decoder import TiledDecoder
from tests.models import grid_decoder_oracle, image_decoder_oracle, tiled_decoder_oracle
from tests.models.image_oracle import Written

#: A tower of fixed size, one whose decoder has a window, one of images of any size on three axes, and one
#: whose images are attended to by layers of their own.
FAMILIES = ("llava", "llava-mistral", "qwen2-vl", "mllama")
NUM_NEW = 8
#: Of images by their seeds: patches, or tiles, down and across.
GRIDS = {
    "qwen2-vl": {1: (4, 6), 2: (2, 2), 3: (2, 8)},
    "mllama": {1: (1, 3), 2: (2, 1), 3: (1, 1)},
}


@dataclass(frozen=True)
class Question:
    """A prompt with places for its images, and the images."""

    prompt: tuple[int, ...]
    images: tuple[ImageInput, ...] = ()


@cache
def pair_of(family: str) -> Written:
    if family == "mllama":
        return tiled_decoder_oracle.pair_of(family)
    is_grid = family.startswith("qwen")
    return grid_decoder_oracle.pair_of(family) if is_grid else image_decoder_oracle.pair_of(family)


def model_of(family: str) -> LanguageModel:
    return pair_of(family).model


def reader_of(family: str) -> ImageReader:
    reader = model_of(family).graph
    assert isinstance(reader, ImageReader)
    return reader


def words(count: int, seed: int) -> list[int]:
    return torch.randint(3, 90, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@cache
def image_of(family: str, seed: int, scale: float = 1.0, like: int | None = None) -> ImageInput:
    """A random image as the family's preprocessor would give it, of the grid that `like` has."""
    dice = torch.Generator().manual_seed(seed)
    usual = (1, 1) if family == "mllama" else (2, 2)
    spec, grid = model_of(family).spec.image, GRIDS.get(family, {}).get(like or seed, usual)
    if family == "mllama":
        shape = (grid[0] * grid[1], 3, spec.tile_size, spec.tile_size)
    elif family == "qwen2-vl":
        shape = (grid[0] * grid[1], spec.patch_width)
    else:
        shape, grid = (3, spec.patches.image_size, spec.patches.image_size), None
    return ImageInput.of((scale * torch.randn(shape, generator=dice)).numpy(), grid)


def question(family: str, *images: ImageInput, num_words: int = 11, seed: int = 7) -> Question:
    """Words before each image and behind the last."""
    reader, prompt = reader_of(family), list[int]()
    for number, image in enumerate(images):
        prompt += [*words(5, seed + number), *[reader.image_token_id] * reader.num_places(image)]
    return Question((*prompt, *words(num_words, seed + 50)), images)


def questions(family: str) -> list[Question]:
    """Two images, none, one, and one that the first has too."""
    first, second, third = (image_of(family, seed) for seed in (1, 2, 3))
    asked = [(first, second), (), (third,), (first,)]
    return [question(family, *images, seed=10 * at) for at, images in enumerate(asked)]


def expected(family: str, asked: Question, num_new: int = NUM_NEW) -> list[int]:
    """What transformers generates."""
    return list(_generated(family, asked, num_new))


@cache
@torch.no_grad()
def _generated(family: str, asked: Question, num_new: int) -> tuple[int, ...]:
    tokens = torch.tensor([asked.prompt])
    given: dict[str, Tensor] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    arrays = [torch.tensor(image.array) for image in asked.images]
    grids = [image.grid for image in asked.images if image.grid is not None]
    if family == "mllama":
        graph = reader_of(family)
        assert isinstance(graph, TiledDecoder)
        given |= tiled_decoder_oracle.given(graph, asked.prompt, arrays, grids)
    elif grids:
        sizes = [[1, *grid] for grid in grids]
        given |= {"pixel_values": torch.cat(arrays), "image_grid_thw": torch.tensor(sizes)}
        given["mm_token_type_ids"] = (tokens == reader_of(family).image_token_id).int()
    elif arrays:
        given["pixel_values"] = torch.stack(arrays)
    oracle = pair_of(family).oracle
    greedy = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    told = oracle.generate(**given, max_new_tokens=num_new, **greedy)
    return tuple(told[0, len(asked.prompt) :].tolist())
