"""Find a checkpoint's safetensors files and check their headers. Knows nothing of torch.

The format: eight bytes with the header's length (little endian), a JSON object `{name: {dtype, shape,
data_offsets}}`, then the bytes of all tensors without gaps (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, CheckpointUnsafe
from cynosure.models.json_file import JsonValue, parse_json_object, read_json_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: The same by the names that diffusers has for them.
DIFFUSION_SINGLE = "diffusion_pytorch_model.safetensors"
DIFFUSION_INDEX = "diffusion_pytorch_model.safetensors.index.json"

#: The library refuses longer headers as well.
MAX_HEADER_BYTES = 100_000_000

BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("F4",), 4),
        **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
        **dict.fromkeys(
            ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8
        ),
        **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
        **dict.fromkeys(("U32", "I32", "F32"), 32),
        **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    }
)

_CONVERT = (
    'python -c "from transformers import AutoModel as M; '
    "M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\" (or the Auto class of its task)."
)

_CONVERT_DIFFUSION = (
    'python -c "from diffusers import AutoModel as M; '
    "M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}-safe')\"."
)

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


@dataclass(frozen=True)
class TensorEntry:
    """One line of a header: the file's own name of the dtype, the shape, where the bytes lie."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def find_tensors(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of the checkpoint in `folder`, from one file or from the shards that its index names.

    Raises:
        CheckpointNotFound: No weights, or a shard is missing.
        CheckpointCorrupt: An index or header that does not fit the files.
        CheckpointUnsafe: The folder holds pickled weights only, or the index points outside of it.
    """
    for index, single in ((INDEX, SINGLE), (DIFFUSION_INDEX, DIFFUSION_SINGLE)):
        if (folder / index).is_file():
            return _find_sharded(folder / index)
        if (folder / single).is_file():
            return read_header(folder / single)
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        is_diffusion = pickled[0].startswith("diffusion_pytorch_model")
        convert = (_CONVERT_DIFFUSION if is_diffusion else _CONVERT).format(folder=folder)
        raise CheckpointUnsafe(
            f"{folder} holds pickled weights only ({', '.join(pickled[:4])}); unpickling runs code, so they "
            f"are never opened. Convert them where you trust them: {convert} Then "
            "serve the new folder."
        )
    raise CheckpointNotFound(
        f"{folder} holds neither {SINGLE} nor {INDEX}, nor {DIFFUSION_SINGLE}. Name the folder of a complete "
        "checkpoint."
    )


def _find_sharded(path: Path) -> dict[str, TensorEntry]:
    folder = path.parent
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointCorrupt(f"{path} has no weight_map of tensor to shard. Fetch the file again.")
    shards: dict[str, dict[str, TensorEntry]] = {}
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _is_plain_name(shard):
            raise CheckpointUnsafe(
                f"{path} names the shard {shard!r}; only the plain name of a .safetensors file in the same "
                "folder is accepted. Move the shards beside the index and correct it."
            )
        if shard not in shards:
            if not (folder / shard).is_file():
                raise CheckpointNotFound(
                    f"{folder} lacks the shard {shard} that {path.name} names. Fetch the missing file."
                )
            shards[shard] = read_header(folder / shard)
    # What a shard holds beyond the index is listed too, so that nothing is dropped unseen.
    found = {name: entry for entries in shards.values() for name, entry in entries.items()}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise CheckpointCorrupt(
                f"{folder / shard} lacks the tensor {name} that {path.name} places there. Fetch both."
            )
        found[name] = shards[shard][name]
    return found


def _is_plain_name(name: str) -> bool:
    return name.endswith(".safetensors") and not set(name) & set("/\\\0:") and not name.startswith(".")


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors that one file declares, after checking that they cover its bytes exactly.

    Raises:
        CheckpointNotFound: The file can't be read.
        CheckpointCorrupt: It is truncated, or its header does not describe it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointCorrupt(
                    f"{path} has {size} bytes and claims a header of {length}: it is truncated or no "
                    "safetensors file. Fetch it again."
                )
            header = parse_json_object(file.read(length), f"the header of {path}")
    except OSError as error:
        raise CheckpointNotFound(
            f"{path} can't be read: {error.strerror}. Check your rights to it."
        ) from error
    header.pop("__metadata__", None)
    start = 8 + length
    entries = {name: _entry(path, name, value, start) for name, value in header.items()}
    _check_cover(path, entries, start, size)
    return entries


def _entry(path: Path, name: str, value: JsonValue, start: int) -> TensorEntry:
    fields = value if isinstance(value, dict) else {}
    dtype, shape, offsets = (
        fields.get("dtype"),
        _counts(fields.get("shape")),
        _counts(fields.get("data_offsets")),
    )
    if not isinstance(dtype, str) or dtype not in BITS or shape is None or offsets is None:
        raise CheckpointCorrupt(
            f"the header of {path} does not describe the tensor {name!r}. Fetch the file again."
        )
    bits = math.prod(shape) * BITS[dtype]
    if len(offsets) != 2 or (offsets[1] - offsets[0]) * 8 != bits:
        raise CheckpointCorrupt(
            f"the header of {path} gives {name!r} the offsets {offsets}; {dtype} of shape {shape} takes "
            f"{bits // 8} bytes. Fetch the file again."
        )
    return TensorEntry(path, dtype, shape, start + offsets[0], start + offsets[1])


def _counts(value: JsonValue) -> tuple[int, ...] | None:
    """The list as a tuple, or None where it is not a list of counts."""
    if not isinstance(value, list):
        return None
    fits = all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63 for item in value)
    return tuple(value) if fits else None


def _check_cover(path: Path, entries: Mapping[str, TensorEntry], start: int, size: int) -> None:
    position = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise CheckpointCorrupt(
                f"the header of {path} places {name!r} at byte {entry.begin}; byte {position} comes next. "
                "Fetch it again."
            )
        position = entry.end
    if position != size:
        raise CheckpointCorrupt(
            f"{path} has {size} bytes; its header describes {position}: it is truncated or padded. Fetch it "
            "again."
        )
