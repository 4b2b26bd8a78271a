"""Say where the packed models lie, and what they weigh. Knows nothing of what they compute.

Each folder is a checkpoint like any other: `config.json`, the tokenizer, `model.safetensors`, and beside
them `recipe.json`, from which `cynosure train NAME` makes it again, and `README.md`, its card. The embedder
comes as a package of its own.
"""

from __future__ import annotations

import json
from pathlib import Path

from cynosure.core.errors import CheckpointNotFound

#: A cross-encoder: does this passage, or this sentence, answer the question?
RANKER = "ranker"

#: A decoder for Python code.
CORE_LM = "core-lm"

_HERE = Path(__file__).parent
_WEIGHTS = "model.safetensors"


def pack_folder(name: str, root: Path = _HERE) -> Path:
    """The folder of a packed model.

    Raises:
        CheckpointNotFound: there is none of that name, or this copy of the package was built without weights.
    """
    folder = root / name
    known = sorted(path.parent.name for path in root.glob(f"*/{_WEIGHTS}"))
    if name not in known:
        raise CheckpointNotFound(
            f"the pack has no model {name!r}; it has {', '.join(known) or 'none'}. Install the package "
            f"whole, or train it: `cynosure train {name} --out FOLDER`, then name the folder."
        )
    return folder


def is_demonstration(folder: Path) -> bool:
    """Whether a model's recipe says that a baseline does better: it then shows a feature, and no more."""
    recipe = folder / "recipe.json"
    return recipe.is_file() and json.loads(recipe.read_text()).get("standing") == "demonstration"


def pack_bytes(root: Path = _HERE) -> int:
    """What all packed models take on the disk, in bytes, cards and recipes included."""
    return sum(file.stat().st_size for file in root.glob("*/*") if not file.name.endswith((".py", ".pyc")))
