"""Hold one image as a checkpoint's preprocessor gives it. Knows nothing of files, colours or models."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Float

from cynosure.core.errors import InputError

MAX_AXES = 4


@dataclass(frozen=True)
class ImageInput:
    """One image: `data` holds float32 of `shape`, the lowest byte first.

    `grid` says what the shape does not: patches down and across where an image comes as patches (Qwen2-VL),
    tiles down and across where it comes as tiles (Llama 3.2 Vision); None elsewhere.
    """

    shape: tuple[int, ...]
    data: bytes = field(repr=False)
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Check that the numbers are as many as the shape says, and finite.

        Raises:
            InputError: they are not.
        """
        if not 1 <= len(self.shape) <= MAX_AXES or min(self.shape) < 1:
            raise InputError(
                f"an image is of shape {list(self.shape[:8])}; it has 1 to {MAX_AXES} axes, each of at least "
                "1. Send each image by itself, without the axis of a batch."
            )
        if self.grid is not None and min(self.grid) < 1:
            raise InputError(f"an image has a grid of {list(self.grid)}; both must be at least 1.")
        num_bytes = 4 * prod(self.shape)
        if len(self.data) != num_bytes:
            raise InputError(
                f"an image of shape {list(self.shape)} holds {len(self.data)} bytes; {num_bytes} are needed. "
                "Send float32."
            )
        if not np.isfinite(self.array).all():
            raise InputError("an image holds NaN or Inf; every number must be finite. Compute it again.")

    @classmethod
    def of(cls, array: Float[np.ndarray, "..."], grid: tuple[int, int] | None = None) -> ImageInput:
        """Hold a copy of `array`."""
        numbers = np.ascontiguousarray(array, dtype="<f4")
        return cls(tuple(numbers.shape), numbers.tobytes(), grid)

    @property
    def array(self) -> Float[np.ndarray, "..."]:
        """The numbers; not to be written to."""
        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that tells it from another."""
        told = hashlib.sha256(f"{self.shape} {self.grid}: ".encode())
        told.update(self.data)
        return told.hexdigest()
