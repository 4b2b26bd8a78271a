"""An image is what its numbers are: nothing else is taken, and no two have one digest."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.core.errors import InputError
from cynosure.models.image_input import ImageInput


def test_an_array_comes_back_bit_for_bit() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = ImageInput.of(array.transpose(2, 0, 1))
    assert image.shape == (4, 2, 3)
    assert np.array_equal(image.array, array.transpose(2, 0, 1))


def test_whatever_tells_images_apart_is_in_the_digest() -> None:
    array = np.zeros((4, 6), np.float32)
    changed = array.copy()
    changed[3, 5] = 1e-30
    images = [
        ImageInput.of(array),
        ImageInput.of(changed),
        ImageInput.of(array.reshape(6, 4)),
        ImageInput.of(array, (2, 2)),
        ImageInput.of(array, (4, 1)),
    ]
    assert len({image.digest for image in images}) == len(images)
    assert ImageInput.of(array.copy()).digest == images[0].digest


@pytest.mark.parametrize(
    ("shape", "data", "grid", "words"),
    [
        ((), b"\0" * 4, None, "1 to 4 axes"),
        ((1, 1, 1, 1, 1), b"\0" * 4, None, "1 to 4 axes"),
        ((0, 3), b"", None, "at least 1"),
        ((2, 3), b"\0" * 20, None, "24 are needed"),
        ((1,), b"\0" * 4, (0, 1), "grid"),
        ((1,), np.float32("nan").tobytes(), None, "NaN"),
        ((1,), np.float32("-inf").tobytes(), None, "finite"),
    ],
)
def test_what_is_no_image_is_refused(
    shape: tuple[int, ...], data: bytes, grid: tuple[int, int] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ImageInput(shape, data, grid)
