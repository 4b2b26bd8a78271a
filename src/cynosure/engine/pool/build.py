"""Name all that shapes a model's keys and values on disk. Knows nothing of pages or sessions."""

from __future__ import annotations

from pathlib import Path

import torch

import cynosure
from cynosure.engine.pool.card import ModelCard, ServedModel
from cynosure.engine.settings import EngineSettings
from cynosure.models.fingerprint import digests_of, fingerprint


def identity_of(served: ServedModel, card: ModelCard, settings: EngineSettings) -> str:
    """Return the weights, how they are read, and the build that computes with them; reads the whole folder.

    Another build rounds otherwise, or lays pages out otherwise: what it left is not found.
    """
    folder = Path(card.folder)
    parts = {
        "weights": fingerprint(folder, digests_of(folder)),
        "dtype": card.dtype,
        "quantize": served.quantize,
        "max_model_len": served.max_model_len,
        "backend": served.backend,
        "kernels": settings.kernels,
        "cynosure": cynosure.__version__,
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())
