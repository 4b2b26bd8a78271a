"""Name a model by all that shapes what it computes. Knows nothing of what it computes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_SHAPING = ("*.json", "artifact.metadata", "*/config.json", "*.safetensors", "*/*.safetensors")
#: Files that tell how a model was made, or how others should cite it.
_NOT_SHAPING = frozenset(("data_config.json", "README.json", "train_script.json"))


def digests_of(folder: Path) -> dict[Path, str]:
    """Return the SHA-256 of each config, tokenizer and weight file of a checkpoint, in order of names.

    A checkpoint that is one file has the one of that file.
    """
    paths = {path for pattern in _SHAPING for path in folder.glob(pattern) if path.name not in _NOT_SHAPING}
    paths |= {folder} if folder.is_file() else set()
    digests = {}
    for path in sorted(paths):
        with path.open("rb") as file:
            digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def model_id(name: str, folder: Path, digests: Mapping[Path, str], dtype: str) -> str:
    """Return `name@fingerprint:dtype`, equal only where vectors and scores may be compared."""
    return f"{name}@{fingerprint(folder, digests)[:12]}:{dtype}"


def fingerprint(folder: Path, digests: Mapping[Path, str]) -> str:
    """Return one SHA-256 of all files of a checkpoint and their names."""
    lines = "".join(f"{path.relative_to(folder)} {digest}\n" for path, digest in digests.items())
    return hashlib.sha256(lines.encode()).hexdigest()
