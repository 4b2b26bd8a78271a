"""Keep the vectors that stand for images among tokens. Knows nothing of how they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.models.batch import Inserted
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, Kept, PlacedRows
from cynosure.models.image_reader import ImageMemory

#: Gives the vectors of an image, by a backend of attention.
Encode = Callable[[ImageInput, str], Float[Tensor, "places hidden"]]


@final
class ImageVectors(ImageMemory):
    """A row for each place of an image."""

    def __init__(
        self, encode: Encode, num_blocks: int, block_size: int, width: int, dtype: torch.dtype
    ) -> None:
        """Reserve all pages."""
        self._encode = encode
        self._size = block_size
        self._pages = torch.empty(num_blocks, block_size, width, dtype=dtype)

    @torch.inference_mode()
    def write(self, image: ImageInput, blocks: Sequence[int], backend: str = "auto") -> bool:
        """Encode an image and keep its vectors in pages; False where they are not finite."""
        vectors = self._encode(image, backend)
        for place, block in enumerate(blocks):
            part = vectors[place * self._size : (place + 1) * self._size]
            self._pages[block, : len(part)] = part
        return bool(vectors.isfinite().all())

    def placed(
        self, prompt: ImagePrompt, start: int, stop: int, kept: Callable[[int], Kept]
    ) -> PlacedRows | None:
        """Return the vectors that take the places of tokens `start` to `stop`, and where these sit."""
        rows, found = list[Tensor](), list[Tensor]()
        for number in prompt.used(start, stop):
            first, end = prompt.spans[number]
            low, high = max(first, start), min(end, stop)
            rows.append(torch.arange(low - start, high - start))
            found.append(self._vectors(kept(number)[0], low - first, high - first))
        positions = prompt.positions_of(start, stop)
        if not found and positions is None:
            return None
        return PlacedRows(Inserted(torch.cat(rows), torch.cat(found)) if found else None, positions)

    def _vectors(self, blocks: Sequence[int], start: int, stop: int) -> Float[Tensor, "m hidden"]:
        first = start // self._size
        own = list(blocks[first : -(-stop // self._size)])
        return self._pages[own].flatten(0, 1)[start - first * self._size : stop - first * self._size]
