"""Turn a checkpoint's tensors into the parameters of a module. Knows nothing of any family.

`open_weights` maps the files and reads no tensor; `fill` gives a module that was built on the meta device its
parameters, each checked once: present, expected, of the right shape, finite.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from cynosure.core.errors import CheckpointCorrupt, UnknownOption, UnsupportedConfig
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.gguf.tensors import GgufEntry, gguf_entries
from cynosure.models.json_file import JsonValue
from cynosure.models.safetensor_files import TensorEntry, find_tensors

#: A tensor, or a function that makes it when `fill` gets there.
TensorSource: TypeAlias = Tensor | Callable[[], Tensor]

#: What a model can compute in.
DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "float64": torch.float64,
    }
)

_STORED: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "I16": torch.int16,
        "I32": torch.int32,
        "I64": torch.int64,
        "U16": torch.uint16,
        "U32": torch.uint32,
        "U64": torch.uint64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "C64": torch.complex64,
    }
)


class MissingTensor(CheckpointCorrupt, KeyError):
    """A tensor that the checkpoint lacks; a KeyError too, so that `Weights` is a mapping like any other."""

    __str__ = Exception.__str__


class Weights(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name: memory-mapped, read when asked for, never written back.

    As a mapping it gives each tensor as it is stored: a view of the map, or where it `is_mapped` not, a copy
    whose memory goes with it.
    """

    def __init__(self, entries: Mapping[str, TensorEntry | GgufEntry], *, is_mapped: bool = True) -> None:
        """Serve `entries`; a file is mapped when its first tensor is asked for."""
        self._entries: dict[str, TensorEntry | GgufEntry] = dict(entries)
        self._is_mapped = is_mapped
        self._files: dict[Path, safetensors.safe_open] = {}
        self._maps: dict[Path, Tensor] = {}

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the files."""
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its header."""
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that a tensor is stored in.

        Raises:
            UnsupportedConfig: torch has no such dtype.
        """
        stored = self._entry(name).dtype
        if stored not in _STORED:
            raise UnsupportedConfig(
                f"tensor {name} is stored as {stored}; torch has no such dtype. Convert it."
            )
        return _STORED[stored]

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """One tensor in `dtype`; as stored, and without a copy, where that is None or the stored one.

        Raises:
            MissingTensor: No such tensor.
            CheckpointCorrupt: The file changed since it was opened.
        """
        entry = self._entry(name)
        stored = self.dtype(name)
        try:
            # Reading a map behind the end of its file would end the process.
            if entry.file.stat().st_size < entry.end:
                raise OSError("it has become shorter")
            tensor = self._read(name, entry, stored)
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointCorrupt(
                f"{entry.file} gave no tensor {name}: {error}. Fetch it again."
            ) from error
        return tensor if dtype is None else tensor.to(dtype)

    def later(self, name: str, change: Callable[[Tensor], Tensor] | None = None) -> Later:
        """What gives the tensor when it is called, after `change` (a split, a transpose)."""
        self._entry(name)
        return Later(self, name, change)

    def main_dtype(self) -> torch.dtype:
        """The dtype among `DTYPES` that most elements are stored in.

        Raises:
            UnsupportedConfig: No tensor is stored in one of them.
        """
        sizes: Counter[torch.dtype] = Counter()
        for entry in self._entries.values():
            dtype = _STORED.get(entry.dtype)
            if dtype is not None and dtype in DTYPES.values():
                sizes[dtype] += entry.end - entry.begin
        if not sizes:
            stored = sorted({entry.dtype for entry in self._entries.values()})
            raise UnsupportedConfig(
                f"the weights are stored as {stored}; one of {list(DTYPES)} is needed. Convert."
            )
        return max(sizes, key=lambda dtype: sizes[dtype] // dtype.itemsize)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor as stored; a name that is not there raises MissingTensor."""
        return self.tensor(name)

    def __contains__(self, name: object) -> bool:
        """Whether there is such a tensor."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self._entries)

    def _read(self, name: str, entry: TensorEntry | GgufEntry, stored: torch.dtype) -> Tensor:
        if isinstance(entry, GgufEntry):
            # What is decoded is a copy anyhow; a map of the codes would stay in memory beside it.
            is_view = self._is_mapped and entry.is_plain
            return entry.tensor(self._map_of(entry) if is_view else _bytes_of(entry))
        if not self._is_mapped:
            return _bytes_of(entry).view(stored).reshape(entry.shape)
        file = self._files.get(entry.file)
        if file is None:
            file = self._files[entry.file] = safetensors.safe_open(entry.file, framework="pt")
        return file.get_tensor(name)

    def _map_of(self, entry: GgufEntry) -> Tensor:
        """The bytes of a tensor in a map of its file; writing to them would not reach the file."""
        content = self._maps.get(entry.file)
        if content is None:
            size = entry.file.stat().st_size
            content = torch.from_file(str(entry.file), shared=False, size=size, dtype=torch.uint8)
            self._maps[entry.file] = content
        return content[entry.begin : entry.end]

    def _entry(self, name: str) -> TensorEntry | GgufEntry:
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" The closest is {close[0]}." if close else ""
            raise MissingTensor(
                f"the checkpoint lacks the tensor {name} among its {len(self)}.{hint} Fetch a complete one."
            )
        return self._entries[name]


@dataclass(frozen=True, eq=False)
class Later:
    """A tensor of a checkpoint that is read, and changed, when it is called for."""

    weights: Weights
    name: str
    change: Callable[[Tensor], Tensor] | None

    def __call__(self) -> Tensor:
        """Read the tensor."""
        tensor = self.weights.tensor(self.name)
        return tensor if self.change is None else self.change(tensor)


def _bytes_of(entry: TensorEntry | GgufEntry) -> Tensor:
    data = np.fromfile(entry.file, np.uint8, entry.end - entry.begin, offset=entry.begin)
    if data.nbytes != entry.end - entry.begin:
        raise OSError("it has become shorter")
    return torch.from_numpy(data)


def open_weights(folder: Path, *, is_mapped: bool = True) -> Weights:
    """The weights in `folder`: headers checked, nothing read yet.

    Args:
        folder: A checkpoint's; or a GGUF file, whose tensors get the names of a folder's.
        is_mapped: Whether tensors are views of the files, which stay in memory once they were looked at, or
            copies.

    Raises:
        CheckpointNotFound: No weights, or a shard is missing.
        CheckpointCorrupt: A truncated file, or a header or index that lies.
        CheckpointUnsafe: Pickled weights only.
    """
    entries = gguf_entries(read_gguf(folder)) if is_gguf(folder) else find_tensors(folder)
    return Weights(entries, is_mapped=is_mapped)


def choose_dtype(name: str, config: Mapping[str, JsonValue], weights: Weights) -> torch.dtype:
    """What to compute in: one of `DTYPES` by name, `keep` (as stored) or `auto` (the config's).

    Raises:
        UnknownOption: No such name.
        UnsupportedConfig: The config, or the files, hold a dtype that nothing here computes in.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name not in ("auto", "keep"):
        raise UnknownOption(f"dtype {name!r} does not exist. Take one of {', '.join(DTYPES)}, keep or auto.")
    declared = config.get("dtype") or config.get("torch_dtype")
    if name == "keep" or declared is None:
        return weights.main_dtype()
    declared = str(declared).removeprefix("torch.")
    if declared not in DTYPES:
        raise UnsupportedConfig(
            f"config.json has dtype = {declared!r}; only {', '.join(DTYPES)} are supported. Ask for one of "
            "them."
        )
    return DTYPES[declared]


def fill(
    module: nn.Module,
    tensors: Mapping[str, TensorSource],
    dtype: torch.dtype | None,
    *,
    ignore: Collection[str] = (),
    skip: Collection[str] = (),
    first: str = "",
    notice: Callable[[Collection[str]], None] | None = None,
) -> None:
    """Give every parameter and persistent buffer of `module` its tensor.

    Args:
        module: Built under `torch.device("meta")`; parameters that it shares (tied weights) stay shared.
        tensors: Exactly the names of `module.state_dict()`; of shared ones, one name or all.
        dtype: What floating parameters are converted to; None keeps each as stored, as a view of the file.
            Buffers get the dtype that the module declares, integers stay what they are.
        ignore: Patterns (`*` matches anything) of names that may be there in vain.
        skip: Names that are left as they are, with all that share their tensor; theirs are not read.
        first: What names begin with that are read before all others.
        notice: Told the names of each tensor when it is in its place. It may put others in the place of
            modules that have all of theirs; then nobody else holds them.

    Raises:
        CheckpointCorrupt: A tensor is missing, unexpected, mis-shaped or not finite, or the copies of a
            shared one differ; the message names it.
        UnsupportedConfig: A tensor holds quantised codes.
    """
    groups = _names_of_each(module)
    _check_names(groups, tensors, ignore)
    skipped = {*skip}
    groups.sort(key=lambda group: not any(name.startswith(first) for name in group[0]))
    for names, target in groups:
        if not skipped.isdisjoint(names):
            continue
        given = [name for name in names if name in tensors]
        wanted = target.dtype if not isinstance(target, nn.Parameter) else dtype
        tensor = checked(given[0], tensors[given[0]], target, wanted)
        for other in given[1:]:
            if not torch.equal(tensor, checked(other, tensors[other], target, wanted)):
                raise CheckpointCorrupt(
                    f"tensors {given[0]} and {other} differ, but the config ties them. Set "
                    "tie_word_embeddings to false if both were trained."
                )
        filled = nn.Parameter(tensor, requires_grad=False) if isinstance(target, nn.Parameter) else tensor
        for name in names:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, filled)
        del tensor, filled
        if notice is not None:
            notice(names)
    everything = [*module.named_parameters(), *module.named_buffers()]
    left = [name for name, tensor in everything if tensor.is_meta and name not in skipped]
    assert not left, f"{left} are still on the meta device: build buffers that are not stored on a real one"


def _names_of_each(module: nn.Module) -> list[tuple[list[str], Tensor]]:
    """Each stored parameter or buffer once, with all the names that the module gives it."""
    groups: dict[int, tuple[list[str], Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), ([], tensor))[0].append(name)
    return list(groups.values())


def _check_names(
    groups: Collection[tuple[list[str], Tensor]], tensors: Mapping[str, TensorSource], ignore: Collection[str]
) -> None:
    missing = [names[0] for names, _ in groups if not any(name in tensors for name in names)]
    expected = {name for names, _ in groups for name in names}
    unexpected = [
        name
        for name in tensors
        if name not in expected and not any(fnmatchcase(name, pattern) for pattern in ignore)
    ]
    if missing or unexpected:
        parts = [f"lacks {_listing(missing)}"] * bool(missing) + [
            f"has {_listing(unexpected)} in vain"
        ] * bool(unexpected)
        raise CheckpointCorrupt(
            f"the checkpoint {' and '.join(parts)}. Its architecture or config is not the one that wrote it: "
            "check config.json, or fetch it again."
        )


def _listing(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:8])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 8 else ''})"


def checked(name: str, source: TensorSource, target: Tensor, dtype: torch.dtype | None) -> Tensor:
    """One tensor in `dtype` (None: as stored), after looking at its shape and at every number.

    Raises:
        CheckpointCorrupt: It is mis-shaped or not finite, or does not fit in `dtype`.
        UnsupportedConfig: It holds quantised codes.
    """
    stored = source if isinstance(source, Tensor) else source()
    if stored.shape != target.shape:
        raise CheckpointCorrupt(
            f"tensor {name} has shape {tuple(stored.shape)}; the config asks for {tuple(target.shape)}. "
            "config.json and weights are not of one checkpoint: fetch both again."
        )
    is_number = stored.is_floating_point() and target.is_floating_point()
    if not is_number and stored.dtype != target.dtype:
        raise CheckpointCorrupt(
            f"tensor {name} is stored as {stored.dtype}; {target.dtype} is needed. Fetch it again."
        )
    if not is_number:
        return stored
    if stored.dtype.itemsize == 1:
        raise UnsupportedConfig(
            f"tensor {name} is stored as {stored.dtype} codes, which mean nothing without their scales. "
            "Fetch the checkpoint in bfloat16."
        )
    tensor = stored if dtype is None else stored.to(dtype)
    if not is_finite(tensor):
        if tensor.dtype != stored.dtype and is_finite(stored):
            raise CheckpointCorrupt(
                f"tensor {name} does not fit in {tensor.dtype}. Load it in bfloat16 or float32."
            )
        raise CheckpointCorrupt(
            f"tensor {name} holds NaN or Inf. Fetch the checkpoint again, or ask who trained it."
        )
    return tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is finite.

    A sum of finite rows is finite unless it overflows, so that looking at each one is rarely needed.
    """
    row_sums = tensor.sum(-1) if tensor.dim() else tensor
    return bool(torch.isfinite(row_sums).all()) or bool(torch.isfinite(tensor).all())
