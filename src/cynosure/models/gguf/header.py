"""Read what a GGUF file says of itself: metadata, and where each tensor lies. Decodes no tensor.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): the magic "GGUF", a version, two
counts, then keys with typed values, names with shapes, kinds and offsets, then the tensors, each aligned.
Whatever does not describe the file exactly is refused: nothing is guessed about a file that lies.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, UnsupportedConfig
from cynosure.models.gguf.kinds import KINDS, OTHER_NAMES, BlockKind
from cynosure.models.gguf.values import MAX_KEY_BYTES, Cursor, GgufValue

MAGIC = b"GGUF"
SUFFIX = ".gguf"

#: They differ in nothing that is read here.
_VERSIONS = (2, 3)
_FIXED_BYTES = 24

#: What the largest files have is about 100 keys and 2,000 tensors.
MAX_KEYS = 2**16
MAX_TENSORS = 2**16
MAX_HEADER_BYTES = 64 * 2**20
_MAX_NAME_BYTES = 1024
_MAX_DIMS = 4
_ALIGNMENT = 32


@dataclass(frozen=True)
class GgufTensor:
    """One tensor as the file names it: rows come first in `shape`; its bytes are `[begin, end)`."""

    name: str
    kind: BlockKind
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class GgufFile:
    """The header of one file."""

    path: Path
    metadata: Mapping[str, GgufValue]
    tensors: Mapping[str, GgufTensor]

    @property
    def architecture(self) -> str:
        """What llama.cpp calls the graph, and begins the graph's keys with."""
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise CheckpointCorrupt(f"{self.path} names no general.architecture. Fetch the file again.")
        return name


def is_gguf(path: Path) -> bool:
    """Whether a checkpoint is one file, by its name or its first bytes, and no folder."""
    if not path.is_file():
        return False
    if path.suffix == SUFFIX:
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> GgufFile:
    """Read and check a file's header.

    Raises:
        CheckpointNotFound: the file can't be read.
        CheckpointCorrupt: it is truncated, no GGUF, or its header does not describe it.
        UnsupportedConfig: another version or byte order, a part of a split file, no model, or a tensor of a
            kind that is not read here.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size < _FIXED_BYTES:
                raise CheckpointCorrupt(
                    f"{path} has {size} bytes; a GGUF file has at least {_FIXED_BYTES}. Fetch it again."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as data:
                return _read(path, data, size)
    except OSError as error:
        raise CheckpointNotFound(
            f"{path} can't be read: {error.strerror}. Check your rights to it."
        ) from error


def _read(path: Path, data: memoryview, size: int) -> GgufFile:
    cursor = Cursor(data, str(path), min(size, MAX_HEADER_BYTES))
    num_tensors, num_keys = _opening(cursor)
    metadata: dict[str, GgufValue] = {}
    for _ in range(num_keys):
        key = cursor.string(MAX_KEY_BYTES)
        if key in metadata:
            raise CheckpointCorrupt(f"{path} has the key {key!r} twice. Fetch the file again.")
        metadata[key] = cursor.value()
    _check_whole(path, metadata)
    listed = [_listed(cursor) for _ in range(num_tensors)]
    tensors = _placed(path, listed, metadata, cursor.position, size)
    return GgufFile(path, metadata, tensors)


def _opening(cursor: Cursor) -> tuple[int, int]:
    """Return how many tensors and keys there are, after magic and version."""
    magic = bytes(cursor.data[: len(MAGIC)])
    cursor.position = len(MAGIC)
    version = int(cursor.number("I"))
    if magic != MAGIC:
        raise CheckpointCorrupt(
            f"{cursor.where} begins with {magic!r}; a GGUF file begins with {MAGIC!r}. Name another file, or "
            "fetch it again."
        )
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        raise UnsupportedConfig(
            f"{cursor.where} is a big-endian GGUF file; little-endian ones are read here. Convert it with "
            "`gguf-convert-endian`."
        )
    if version not in _VERSIONS:
        raise UnsupportedConfig(
            f"{cursor.where} is GGUF version {version}; {' and '.join(map(str, _VERSIONS))} are read here. "
            "Convert the model again."
        )
    num_tensors, num_keys = cursor.count(), cursor.count()
    if num_tensors > MAX_TENSORS or num_keys > MAX_KEYS:
        raise CheckpointCorrupt(
            f"{cursor.where} claims {num_tensors} tensors and {num_keys} keys; at most {MAX_TENSORS} and "
            f"{MAX_KEYS} are read. Fetch the file again."
        )
    return num_tensors, num_keys


def _check_whole(path: Path, metadata: Mapping[str, GgufValue]) -> None:
    """Refuse what holds a part of a model, or something else."""
    num_parts = metadata.get("split.count", 0)
    if num_parts not in (0, 1):
        raise UnsupportedConfig(
            f"{path} is one of {num_parts} parts of a split GGUF; whole files are read here. Join them with "
            "`llama-gguf-split --merge`."
        )
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise UnsupportedConfig(f"{path} holds general.type = {kind!r}; a model is needed. Name its file.")


def _listed(cursor: Cursor) -> GgufTensor:
    """Read one tensor's line; `begin` is still its offset among the tensors."""
    name = cursor.string(_MAX_NAME_BYTES)
    num_dims = int(cursor.number("I"))
    if not 1 <= num_dims <= _MAX_DIMS:
        raise CheckpointCorrupt(
            f"{cursor.where} gives the tensor {name!r} {num_dims} dimensions; 1 to {_MAX_DIMS} exist. Fetch "
            "the "
            "file again."
        )
    dims = [cursor.count() for _ in range(num_dims)]
    number, offset = int(cursor.number("I")), cursor.count()
    kind = KINDS.get(number)
    if kind is None:
        raise UnsupportedConfig(
            f"{cursor.where} stores the tensor {name!r} as {OTHER_NAMES.get(number, f'kind {number}')}; "
            f"{', '.join(sorted(one.name for one in KINDS.values()))} are read here. Take the model in one "
            "of "
            "them, such as Q8_0 or Q4_K_M."
        )
    num_values = math.prod(dims)
    if not 0 < num_values < 2**48 or dims[0] % kind.length:
        raise CheckpointCorrupt(
            f"{cursor.where} gives the tensor {name!r} the shape {dims[::-1]}; {kind.name} needs rows of a "
            f"multiple of {kind.length}, and no side of 0. Fetch the file again."
        )
    num_bytes = num_values // kind.length * kind.num_bytes
    return GgufTensor(name, kind, tuple(reversed(dims)), offset, offset + num_bytes)


def _placed(
    path: Path, listed: list[GgufTensor], metadata: Mapping[str, GgufValue], header_end: int, size: int
) -> dict[str, GgufTensor]:
    """Return the tensors with their places in the file, which must follow one another without a gap."""
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    is_power = isinstance(alignment, int) and alignment >= 8 and alignment & (alignment - 1) == 0
    if not isinstance(alignment, int) or not is_power or alignment > 2**20:
        raise CheckpointCorrupt(
            f"{path} has general.alignment = {alignment!r}; a power of 2 from 8 to 2**20 is needed. Fetch "
            "the "
            "file again."
        )
    start = -(-header_end // alignment) * alignment
    placed: dict[str, GgufTensor] = {}
    expected = 0
    for one in listed:
        if one.name in placed:
            raise CheckpointCorrupt(f"{path} has the tensor {one.name!r} twice. Fetch the file again.")
        if one.begin != expected:
            raise CheckpointCorrupt(
                f"{path} places the tensor {one.name!r} at byte {one.begin} of the tensors; byte {expected} "
                "comes "
                "next: they overlap, or leave a gap. Fetch the file again."
            )
        if start + one.end > size:
            raise CheckpointCorrupt(
                f"{path} has {size} bytes, and the tensor {one.name!r} ends at byte {start + one.end}: the "
                "file "
                "is truncated. Fetch it again."
            )
        placed[one.name] = GgufTensor(one.name, one.kind, one.shape, start + one.begin, start + one.end)
        expected = -(-one.end // alignment) * alignment
    return placed
