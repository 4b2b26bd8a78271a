"""Keep keys and values between steps. Knows nothing of attention or models."""

from cynosure.cache.contiguous import ContiguousCache, LayerShape

__all__ = ["ContiguousCache", "LayerShape"]
