"""Hold the numbers that an encoder reads where it reads no tokens. Knows nothing of sound or images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cynosure.core.errors import InputError


@dataclass(frozen=True)
class FeatureShape:
    """What an encoder reads: so many numbers a frame, and exactly so many frames."""

    num_bins: int
    num_frames: int


@dataclass(frozen=True)
class Features:
    """One input: `data` holds float32, the lowest byte first; all frames of a bin, then those of the next."""

    shape: FeatureShape
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check that the numbers are as many as the shape says, and finite.

        Raises:
            InputError: they are not.
        """
        num_bytes = 4 * self.shape.num_bins * self.shape.num_frames
        if min(self.shape.num_bins, self.shape.num_frames) < 1 or len(self.data) != num_bytes:
            raise InputError(
                f"features of {self.shape.num_bins} bins and {self.shape.num_frames} frames hold "
                f"{len(self.data)} bytes; {num_bytes} are needed. Send float32, a row of frames for each bin."
            )
        if not np.isfinite(self.array).all():
            raise InputError("features hold NaN or Inf; every number must be finite. Compute them again.")

    @classmethod
    def of(cls, array: Float[np.ndarray, "bins frames"]) -> Features:
        """Hold a copy of `array`."""
        return cls(FeatureShape(*array.shape), np.ascontiguousarray(array, dtype="<f4").tobytes())

    @property
    def array(self) -> Float[np.ndarray, "bins frames"]:
        """The numbers; not to be written to."""
        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape.num_bins, self.shape.num_frames)
