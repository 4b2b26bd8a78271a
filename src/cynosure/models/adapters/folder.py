"""Read an adapter from the folder that PEFT wrote, checked against its base model. Applies nothing."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    CheckpointUnsafe,
    InputError,
    UnsupportedConfig,
)
from cynosure.models.adapters.adapter import Adapter, Pair
from cynosure.models.adapters.config import CONFIG, LoraConfig, read_lora_config
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.adapters.targets import Base, Shape, Share
from cynosure.models.load import LanguageModel
from cynosure.models.safetensor_files import TensorEntry, read_header

WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
_PREFIX = "base_model.model."
_NAME = re.compile(rf"{re.escape(_PREFIX)}(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
_FLOATS = ("F16", "BF16", "F32", "F64")


def load_adapter(model: LanguageModel, folder: str | Path, name: str = "adapter") -> Adapter:
    """Read an adapter of a model that is in memory; raises what `read_adapter` raises."""
    return read_adapter(name, Path(folder), Base(model.brand, model.spec))


def read_adapter(name: str, folder: Path, base: Base, limits: AdapterLimits | None = None) -> Adapter:
    """Read all of an adapter; `name` is what requests will call it.

    Raises:
        CheckpointNotFound: a file is missing.
        CheckpointUnsafe: its weights are pickled.
        CheckpointCorrupt: a file is damaged, or lacks a half of a pair or a layer that its config names.
        UnsupportedConfig: it is no LoRA adapter, or not one for this model; the message names what it is.
        InputError: it passes a limit.
    """
    limits = limits or AdapterLimits()
    config = read_lora_config(folder)
    path = folder / WEIGHTS
    _check_there(folder)
    entries = read_header(path)
    shapes = _shapes(path, entries, config)
    _check_limits(path, entries, limits)
    shares = base.shares(shapes, str(path))
    _check_whole(path, config, shares, base)
    digest, tensors = _read(folder)
    is_as_checked = {name: tuple(one.shape) for name, one in tensors.items()} == {
        name: entry.shape for name, entry in entries.items()
    }
    if not is_as_checked or read_lora_config(folder) != config:
        raise CheckpointCorrupt(f"{folder} changed while it was read. Load it again.")
    pairs: dict[str, Pair] = {}
    for module, parts in shares.items():
        down = _half(path, tensors, module, "A")
        up = _half(path, tensors, module, "B") * config.scale_of(module)
        for share in parts:
            own = up[share.rows]
            pairs[share.projection] = Pair(down, own.contiguous())
    return Adapter(name, digest, pairs)


def _check_there(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / _PICKLED).is_file():
        raise CheckpointUnsafe(
            f"{folder} holds pickled weights only ({_PICKLED}); unpickling runs code, so they are never "
            "opened. Save the adapter with safe_serialization=True."
        )
    raise CheckpointNotFound(f"{folder} holds no {WEIGHTS}. Copy it there.")


def _shapes(path: Path, entries: Mapping[str, TensorEntry], config: LoraConfig) -> dict[str, Shape]:
    """Return the sizes of each adapted module, after a look at every tensor's name, dtype and shape."""
    halves: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, entry in entries.items():
        found = _NAME.fullmatch(name)
        if found is None:
            raise UnsupportedConfig(
                f"{path} holds {name[:120]!r}, which is no half of a low-rank pair of a projection. What "
                "adapters of other kinds hold is not served: merge it into its model."
            )
        if entry.dtype not in _FLOATS or len(entry.shape) != 2:
            raise UnsupportedConfig(
                f"{path} holds {name} as {entry.dtype} of shape {entry.shape}; a matrix of floats is needed."
                " Save it anew."
            )
        halves[found["module"]][found["half"]] = entry.shape
    if not halves:
        raise CheckpointCorrupt(f"{path} holds no tensors. Save the adapter again.")
    return {module: _shape(path, module, config, of) for module, of in halves.items()}


def _shape(path: Path, module: str, config: LoraConfig, of: Mapping[str, tuple[int, ...]]) -> Shape:
    if len(of) != 2:
        raise CheckpointCorrupt(
            f"{path} holds lora_{next(iter(of))} of {module} and not the other half. Save the adapter again."
        )
    (rank, width), (out, rank_b) = of["A"], of["B"]
    if rank != rank_b or rank != config.rank_of(module):
        raise CheckpointCorrupt(
            f"{path} holds a pair of ranks {rank} and {rank_b} for {module}; {CONFIG} says "
            f"{config.rank_of(module)}. Both files must come from one run."
        )
    if not config.is_target(module):
        raise CheckpointCorrupt(
            f"{path} holds a pair for {module}, which {CONFIG} does not target. Both files must come from "
            "one run."
        )
    return Shape(out, width)


def _check_limits(path: Path, entries: Mapping[str, TensorEntry], limits: AdapterLimits) -> None:
    rank = max(min(entry.shape) for entry in entries.values())
    if rank > limits.max_rank:
        raise InputError(f"{path} has rank {rank}; the limit is {limits.max_rank}. Raise --max-lora-rank.")
    num_bytes = 4 * sum(entry.shape[0] * entry.shape[1] for entry in entries.values())
    if num_bytes > limits.max_bytes:
        raise InputError(
            f"{path} takes {num_bytes} bytes in float32; the limit is {limits.max_bytes}. Raise "
            "--lora-memory."
        )


def _check_whole(path: Path, config: LoraConfig, shares: Mapping[str, tuple[Share, ...]], base: Base) -> None:
    """Refuse a file that has a projection in some layers and lacks it in others, unless it is meant so."""
    plain = not isinstance(config.targets, re.Pattern) and not any("." in target for target in config.targets)
    if config.is_partial or not plain:
        return
    adapted = {share.projection for parts in shares.values() for share in parts}
    kinds = {_kind(name) for name in adapted}
    missing = [name for name in base.projections if _kind(name) in kinds and name not in adapted]
    if missing:
        raise CheckpointCorrupt(
            f"{path} has no pair for {_listed(missing)}, and has one in other layers. Save the adapter again."
        )


def _kind(projection: str) -> str:
    return projection.split(".", 2)[2]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _read(folder: Path) -> tuple[str, Mapping[str, Tensor]]:
    """Read both files once, so that the digest is of what is used."""
    try:
        config, content = (folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes()
        tensors = safetensors.torch.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointCorrupt(f"{folder} can't be read: {error}. Save the adapter again.") from error
    return hashlib.sha256(hashlib.sha256(config).digest() + content).hexdigest(), tensors


def _half(path: Path, tensors: Mapping[str, Tensor], module: str, half: str) -> Tensor:
    tensor = tensors[f"{_PREFIX}{module}.lora_{half}.weight"].to(torch.float32)
    if not torch.isfinite(tensor).all():
        raise CheckpointCorrupt(f"{path} holds NaN or Inf in lora_{half} of {module}. Train it again.")
    return tensor
