"""Read a checkpoint's config from wherever it is stored. Knows nothing of what its keys mean."""

from __future__ import annotations

from pathlib import Path

from cynosure.models.config_reader import read_config
from cynosure.models.gguf.config import gguf_config
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.json_file import JsonValue


def stored_config(checkpoint: Path) -> dict[str, JsonValue]:
    """Return the content of a folder's `config.json`, or the same of a GGUF file.

    Raises:
        CheckpointError: there is no config, or it is damaged; of a GGUF file also one that is not understood.
    """
    return gguf_config(read_gguf(checkpoint)) if is_gguf(checkpoint) else read_config(checkpoint)


def place_of_config(checkpoint: Path) -> str:
    """Return how messages call the config: the file that somebody would correct."""
    return str(checkpoint if is_gguf(checkpoint) else checkpoint / "config.json")
