"""Places of images are found whatever the chunk, and positions go on behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.models.batch import Batch, Inserted
from cynosure.models.grid_positions import token_positions
from cynosure.models.grid_vision_spec import PatchGrid
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, Kept, PlacedRows, runs_behind, spans_of, with_images
from cynosure.models.image_vectors import ImageVectors

IMAGE = 9
TOKENS = (1, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, IMAGE, 2, IMAGE, 3, 4)
SPANS = ((1, 7), (8, 9))


def numbered(image: ImageInput, backend: str) -> Tensor:
    """Vectors that say which image and which of its places they are."""
    number, count = int(image.array[0]), int(image.array[1])
    return torch.tensor([[float(number), float(place)] for place in range(count)])


IMAGES = tuple(ImageInput.of(np.array([number, count], np.float32)) for number, count in ((0, 6), (1, 1)))
#: The first image lies on two pages.
KEPT: list[Kept] = [((2, 0), 6), ((1,), 1)]


def prompt(positions: Tensor | None = None) -> ImagePrompt:
    return ImagePrompt(IMAGES, SPANS, positions)


def rows(start: int, stop: int) -> PlacedRows | None:
    memory = ImageVectors(numbered, 3, 4, 2, torch.float32)
    for image, (blocks, _) in zip(IMAGES, KEPT, strict=True):
        assert memory.write(image, blocks)
    return memory.placed(prompt(), start, stop, lambda number: KEPT[number])


def test_places_are_found_in_order() -> None:
    assert spans_of(TOKENS, [6, 1], IMAGE) == SPANS
    assert spans_of(TOKENS[:7], [2, 4], IMAGE) == ((1, 3), (3, 7)), "two images side by side"
    assert spans_of((1, 2), [], IMAGE) == ()


@pytest.mark.parametrize("counts", [[], [6], [6, 2], [6, 1, 1]])
def test_more_or_fewer_places_are_refused(counts: list[int]) -> None:
    with pytest.raises(InputError, match=f"take {sum(counts)} places, and the prompt has 7"):
        spans_of(TOKENS, counts, IMAGE)


def test_places_apart_are_refused() -> None:
    with pytest.raises(InputError, match=r"the 7 places of image 0 .* not side by side"):
        spans_of(TOKENS, [7], IMAGE)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11])
def test_chunks_read_what_the_whole_reads(size: int) -> None:
    found = []
    for start in range(0, len(TOKENS), size):
        part = rows(start, min(start + size, len(TOKENS)))
        if part is not None:
            assert part.inserted is not None
            own, vectors = part.inserted.rows.tolist(), part.inserted.vectors.tolist()
            found += [(start + row, *vector) for row, vector in zip(own, vectors, strict=True)]
    assert found == [*[(1 + place, 0.0, float(place)) for place in range(6)], (8, 1.0, 0.0)]


def test_words_alone_read_nothing() -> None:
    assert rows(9, 11) is None
    assert rows(0, 1) is None


def test_an_image_is_done_behind_its_last_place() -> None:
    assert [number for number in (0, 1) if prompt().is_done(number, 6)] == []
    assert [number for number in (0, 1) if prompt().is_done(number, 7)] == [0]
    assert [number for number in (0, 1) if prompt().is_done(number, 9)] == [0, 1]


def test_tokens_see_the_images_that_stand_together_behind_the_words_before_them() -> None:
    # Words, two images side by side, words, one more, words.
    runs = runs_behind(((2, 3), (3, 4), (6, 7)))
    seen = ImagePrompt((), (), runs=runs)
    assert seen.seen(0, 2) == []
    assert seen.seen(0, 9) == [((2, 3), (0,)), ((3, 6), (0, 1)), ((6, 9), (2,))]
    assert seen.seen(4, 7) == [((0, 2), (0, 1)), ((2, 3), (2,))]
    assert seen.seen(100, 101) == [((0, 1), (2,))], "what is generated sees what the last token sees"
    assert seen.used(3, 7) == [0, 1, 2]
    assert [number for number in range(3) if seen.is_done(number, 6)] == [0, 1]
    assert not seen.is_done(2, 10**6)
    assert runs_behind(()) == ()


def test_what_is_generated_counts_on_behind_the_images() -> None:
    places = token_positions(TOKENS, [PatchGrid(4, 6), PatchGrid(2, 2)], IMAGE, 2)
    one = prompt(places)
    longer = token_positions((*TOKENS, 5, 6, 7), [PatchGrid(4, 6), PatchGrid(2, 2)], IMAGE, 2)
    for start, stop in ((0, 11), (3, 9), (9, 12), (11, 12), (12, 14), (0, 14)):
        found = one.positions_of(start, stop)
        assert found is not None
        assert torch.equal(found, longer[:, start:stop])


def test_a_batch_of_words_and_images() -> None:
    batch = Batch.pack([[1, 2], [IMAGE, IMAGE], [3]], past_lens=[4, 0, 7], block_tables=[[0], [1], [2]])
    assert with_images(batch, [None, None, None]) is batch
    placed = PlacedRows(
        Inserted(torch.tensor([0, 1]), torch.ones(2, 2)), torch.tensor([[0, 0], [0, 0], [0, 1]])
    )
    found = with_images(batch, [None, placed, None])
    assert found.inserted is not None
    assert found.inserted.rows.tolist() == [2, 3]
    assert found.positions.tolist() == [[4, 5, 0, 0, 7], [4, 5, 0, 0, 7], [4, 5, 0, 1, 7]]
    assert found.plan is batch.plan
