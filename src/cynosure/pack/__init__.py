"""Find the models that come with the package. Knows nothing of what they compute."""

from cynosure.pack.places import CORE_LM, RANKER, is_demonstration, pack_bytes, pack_folder

__all__ = ["CORE_LM", "RANKER", "is_demonstration", "pack_bytes", "pack_folder"]
