"""Load the embedder that comes as a Python package: all-MiniLM-L6-v2. Knows nothing of how it embeds."""

from __future__ import annotations

from cynosure.models.embedder import Embedder, load_embedder
from cynosure.models.minilm_package import NAME, minilm_folder

#: That of model.safetensors in the model's official repository.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def load_minilm(dtype: str = "auto") -> Embedder:
    """Load the packaged all-MiniLM-L6-v2, its weights verified.

    Raises:
        MissingPackage: It is not installed.
        CheckpointCorrupt: Its weights are not the official ones.
    """
    return load_embedder(minilm_folder(), name=NAME, dtype=dtype, weights_sha256=WEIGHTS_SHA256)
