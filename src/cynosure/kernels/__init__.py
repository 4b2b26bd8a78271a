"""The native kernels: plain arrays in, plain arrays out. Knows nothing of tensors, models or attention."""

from cynosure.kernels.library import Kernels, kernels, why_none

__all__ = ["Kernels", "kernels", "why_none"]
