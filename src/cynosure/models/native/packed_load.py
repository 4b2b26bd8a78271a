"""Load a decoder for the kernels, from packed weights that an earlier run has left. Knows nothing of engines.

The first time weights are read, quantised and packed, and what came out is written to a file. The next time
only what is not packed (norms, tables) is read from the checkpoint. The key of a file names everything that
shaped it: the checkpoint's files, the dtype, the code, the variant and build of the kernels, and our sources.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

import torch
from torch import nn

import cynosure
from cynosure.core.errors import EnvironmentFault
from cynosure.kernels import kernels
from cynosure.kernels.library import ELSEWHERE, LIBRARY
from cynosure.kernels.memory import Arena
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, OpenModel, open_model
from cynosure.models.native.graph import AUTO, refusal_of_graph, use_kernels
from cynosure.models.native.packed_as_read import HEAD, PackedAsRead
from cynosure.models.native.packed_file import SUFFIX, PackedFile
from cynosure.models.quantize import QuantEmbedding, QuantLinear

FORMAT = 2
_WEIGHTS = ("*.safetensors", "*.json")


def load_packed(
    source: str | Path,
    folder: Path,
    *,
    dtype: str = "auto",
    backend: str = AUTO,
    max_model_len: int | None = None,
    quantize: str | None = None,
    choice: str = AUTO,
) -> LanguageModel:
    """Load as `models.load.load` does; a decoder's layers become native ones where `choice` allows.

    Args:
        source: see `load`, as for all that is not named here.
        folder: where packed weights are kept.
        choice: of kernels, see `use_kernels`.

    Raises:
        CheckpointError: see `load`.
        UnknownOption: see `load`.
    """

    def opened(*, is_mapped: bool) -> OpenModel:
        return open_model(
            source,
            dtype=dtype,
            backend=backend,
            max_model_len=max_model_len,
            quantize=quantize,
            is_mapped=is_mapped,
        )

    model = opened(is_mapped=True)
    if not _is_packable(model, choice):
        return model.filled()
    file = packed_file(model, folder)
    arena = file.read()
    if arena is not None:
        try:
            return _restored(model, arena)
        except EnvironmentFault:
            file.discard()
    arena = Arena()
    # Copies, whose memory goes as they are packed: a map would stay beside what it became.
    model = opened(is_mapped=False)
    assert isinstance(model.graph, Decoder)
    packing = PackedAsRead(model.graph, arena)
    loaded = model.filled(first=HEAD, notice=packing.notice)
    packing.finish()
    if not _plain_linears(loaded.graph):
        file.write(arena)
    return loaded


def packed_file(model: OpenModel, folder: Path) -> PackedFile:
    """Return where a model's packed weights are kept, and what must have shaped them."""
    scheme = None if model.scheme is None else model.scheme.config()
    place = hashlib.sha256(f"{model.folder.resolve()} {model.dtype} {scheme}".encode()).hexdigest()[:24]
    library = Path(os.environ.get(ELSEWHERE, LIBRARY))
    parts = {
        "format": FORMAT,
        "checkpoint": _stamps(model.folder),
        "dtype": str(model.dtype),
        "scheme": scheme,
        "variant": kernels().variant,
        "library": hashlib.sha256(library.read_bytes()).hexdigest(),
        "sources": _sources(),
        "cynosure": cynosure.__version__,
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return PackedFile(folder / f"{place}{SUFFIX}", key)


def _is_packable(model: OpenModel, choice: str) -> bool:
    is_decoder = isinstance(model.graph, Decoder) and model.fill_dtype is not None
    return is_decoder and not refusal_of_graph(model.graph, model.dtype, choice)


def _restored(model: OpenModel, arena: Arena) -> LanguageModel:
    """Return the model with the weights of a filled arena.

    Raises:
        EnvironmentFault: they are not those of this model.
    """
    for linear in _plain_linears(model.graph):
        if isinstance(linear, nn.Linear):
            # What it would have been read as decides how it is packed.
            linear.weight.data = torch.empty_like(linear.weight, dtype=model.dtype)
    tables = {id(linear.weight) for linear in model.graph.modules() if isinstance(linear, nn.Linear)}
    skip = {
        f"{name}.{leaf}"
        for name, module in model.graph.named_modules()
        if isinstance(module, nn.Linear | QuantLinear | QuantEmbedding)
        or (isinstance(module, nn.Embedding) and id(module.weight) in tables)
        for leaf in module.state_dict()
    }
    loaded = model.filled(skip)
    use_kernels(loaded.graph, loaded.dtype, AUTO, arena)
    left = [*loaded.graph.parameters(), *loaded.graph.buffers()]
    if arena.num_left or any(tensor.is_meta for tensor in left):
        raise EnvironmentFault("packed weights are not those of this model. Remove them.")
    return loaded


def _plain_linears(graph: nn.Module) -> list[nn.Module]:
    return [module for module in graph.modules() if isinstance(module, nn.Linear | QuantLinear)]


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a checkpoint: its digests would take as long as packing it."""
    files = [folder] if folder.is_file() else [path for wanted in _WEIGHTS for path in folder.glob(wanted)]
    stats = [(path.name, path.stat()) for path in sorted(files)]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


@cache
def _sources() -> str:
    """Hash what decides which weights are packed, and in which order."""
    digest = hashlib.sha256()
    root = Path(cynosure.__file__).parent
    for path in sorted([*(root / "models").rglob("*.py"), *(root / "kernels").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
