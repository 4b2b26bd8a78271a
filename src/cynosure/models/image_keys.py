"""Keep keys and values of images, for layers that attend to them. Knows nothing of how images are encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import LayerShape, PagedCache
from cynosure.models.cross_layers import CrossLayer
from cynosure.models.forward_pass import paged_source
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, Kept, PlacedRows, SeenRows
from cynosure.models.image_reader import ImageMemory

#: Gives what is read of an image, by a backend of attention.
Encode = Callable[[ImageInput, str], Float[Tensor, "rows hidden"]]


@final
class ImageKeys(ImageMemory):
    """A key and a value of each layer for each row of an image; they are written once, and never change."""

    def __init__(
        self,
        encode: Encode,
        layers: Sequence[CrossLayer],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
    ) -> None:
        """Reserve all pages."""
        self._encode = encode
        self._layers = tuple(layers)
        self._cache = PagedCache([layer.shape for layer in layers], num_blocks, dtype, block_size)
        self._sources = tuple(paged_source(self._cache, number, dtype) for number in range(len(layers)))

    @torch.inference_mode()
    def write(self, image: ImageInput, blocks: Sequence[int], backend: str = "auto") -> bool:
        """Encode an image and keep keys and values in pages; False where they are not finite."""
        states, is_finite = self._encode(image, backend), True
        slots = self._cache.slots(torch.tensor([list(blocks)]), [0], [states.shape[0]])
        for number, layer in enumerate(self._layers):
            k, v = layer.keys_and_values(states)
            self._cache.write(number, k, v, slots)
            is_finite = is_finite and bool(k.isfinite().all() and v.isfinite().all())
        return is_finite

    def placed(
        self, prompt: ImagePrompt, start: int, stop: int, kept: Callable[[int], Kept]
    ) -> PlacedRows | None:
        """Return which of tokens `start` to `stop` attend to what is kept of which images."""
        seen = prompt.seen(start, stop)
        if not seen:
            return None
        runs = tuple((span, tuple(kept(number) for number in numbers)) for span, numbers in seen)
        return PlacedRows(seen=SeenRows(runs, self._sources))


def bytes_per_row(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """Return what keys and values of a row take in all layers."""
    return sum(shape.num_kv_heads * (shape.head_dim + shape.v_head_dim) for shape in shapes) * dtype.itemsize
