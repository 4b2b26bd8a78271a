"""Find the folder, or the file, that a model's name means. Knows nothing of what a checkpoint holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

from huggingface_hub import is_offline_mode, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from cynosure.core.errors import CheckpointNotFound
from cynosure.models.gguf.header import is_gguf
from cynosure.models.safetensor_files import DIFFUSION_INDEX, DIFFUSION_SINGLE, INDEX, SINGLE

#: What may be fetched: never pickled weights, never code.
WANTED = (
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "model*.safetensors",
    "*/model*.safetensors",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*.safetensors",
)
UNWANTED = ("original/*", "metal/*", "onnx/*", "openvino/*", "coreml/*", "*.bin", "*.py", "*.pt", "*.pkl")

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def resolve_checkpoint(name_or_path: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a checkpoint: a local one as given, else a hub id from the local cache or the hub.

    A GGUF file is a checkpoint by itself; it is returned as given.

    The hub is asked only where the cache is incomplete and HF_HUB_OFFLINE is not set.

    Args:
        name_or_path: A folder, a GGUF file, or an id such as `org/name`.
        revision: The branch, tag or commit of a hub id.

    Raises:
        CheckpointNotFound: There is no such folder, and no such id that can be reached.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir() or is_gguf(path):
        return path
    name = str(name_or_path)
    if path.is_file():
        raise CheckpointNotFound(
            f"{name} is a file; a folder is needed, or a GGUF file. Name the folder that holds it."
        )
    if isinstance(name_or_path, Path) or not _HUB_ID.fullmatch(name) or ".." in name:
        raise CheckpointNotFound(
            f"there is no folder {name!r}, and it is no hub id (org/name). Check the spelling."
        )
    cached = _from_cache(name, revision)
    if cached is not None and (is_offline_mode() or _is_complete(cached)):
        return cached
    if is_offline_mode():
        raise CheckpointNotFound(
            f"there is no folder {name!r}, and the local Hugging Face cache has no such id; HF_HUB_OFFLINE "
            f"keeps it from being fetched. Name a folder, unset HF_HUB_OFFLINE, or run `hf download {name}` "
            "where there is a network and copy the cache."
        )
    return _from_hub(name, revision)


def _from_cache(name: str, revision: str | None) -> Path | None:
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
        )
    # The library lets its HTTP client's errors through, and those of the disk.
    except Exception as error:
        raise CheckpointNotFound(
            f"there is no folder {name!r}, and the hub did not give that id: {type(error).__name__}. Check "
            "the spelling, the network and your access to the repository, or name a local folder."
        ) from error
    return Path(folder)


def _is_complete(folder: Path) -> bool:
    """Whether a cached snapshot has its config and every weight file; the cache may hold a part only."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / (DIFFUSION_INDEX if (folder / DIFFUSION_INDEX).is_file() else INDEX)
    if not index.is_file():
        return any((folder / single).is_file() for single in (SINGLE, DIFFUSION_SINGLE))
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((folder / str(shard)).is_file() for shard in shards)
