"""A GGUF header describes its file exactly, or is refused by name; no bytes crash the reader."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from cynosure.core.errors import CheckpointCorrupt, CheckpointError, CheckpointNotFound, UnsupportedConfig
from cynosure.models.chat.template import read_templates
from cynosure.models.generation_config import read_generation_defaults
from cynosure.models.gguf import is_gguf, read_gguf
from cynosure.models.gguf.header import MAX_KEYS, MAX_TENSORS
from cynosure.models.gguf.tensors import gguf_entries
from cynosure.models.text.tokenizer_files import load_tokenizer_files
from tests.models.gguf_files import MODELS, Kind, write_header, write_pair
from tests.models.gguf_vocabularies import byte_level_metadata, cut_like

UINT32, STRING, ARRAY = 4, 8, 9


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, value: int | str) -> bytes:
    kind = struct.pack("<I", UINT32 if isinstance(value, int) else STRING)
    return text(name) + kind + (struct.pack("<I", value) if isinstance(value, int) else text(value))


def line(name: str, dims: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def opening(num_tensors: int, num_keys: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, num_tensors, num_keys)


def built(lines: list[bytes], num_bytes: int, keys: list[bytes] | None = None) -> bytes:
    """A whole file: its header, then zeros for the tensors."""
    keys = keys or []
    header = opening(len(lines), len(keys)) + b"".join(keys) + b"".join(lines)
    return header + bytes(-len(header) % 32) + bytes(num_bytes)


GOOD = built([line("a", (8,), 0), line("b", (4, 2), 32)], 64, [key("general.architecture", "llama")])


def refused(folder: Path, content: bytes) -> CheckpointError:
    path = folder / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_gguf(path)
    assert "model.gguf" in str(caught.value)
    return caught.value


def test_what_a_header_says(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(GOOD)
    file = read_gguf(path)
    assert file.architecture == "llama"
    assert [(one.name, one.shape, one.end - one.begin) for one in file.tensors.values()] == [
        ("a", (8,), 32),
        ("b", (2, 4), 32),
    ]
    assert max(one.end for one in file.tensors.values()) == len(GOOD)


def test_a_file_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    for name, content, known in (("a.gguf", b"?", True), ("b", b"GGUF", True), ("c.bin", b"PK", False)):
        (tmp_path / name).write_bytes(content)
        assert is_gguf(tmp_path / name) is known
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "absent.gguf")
    with pytest.raises(CheckpointNotFound, match="can't be read"):
        read_gguf(tmp_path / "absent.gguf")


@pytest.mark.parametrize("size", range(0, len(GOOD), 7))
def test_a_truncated_file(tmp_path: Path, size: int) -> None:
    assert isinstance(refused(tmp_path, GOOD[:size]), CheckpointCorrupt)


#: Contents, and what the error says.
LIES = {
    "magic": (opening(0, 0, magic=b"GGML"), "begins with b'GGML'"),
    "version-1": (opening(0, 0, version=1), "GGUF version 1"),
    "version-9": (opening(0, 0, version=9), "GGUF version 9"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "tensors": (opening(MAX_TENSORS + 1, 0), "claims 65537 tensors"),
    "keys": (opening(0, MAX_KEYS + 1), "65537 keys"),
    "counts": (opening(2**64 - 1, 2**64 - 1), "claims 18446744073709551615 tensors"),
    "key-length": (opening(0, 1) + struct.pack("<Q", 2**63), "a string of 9223372036854775808 bytes"),
    "key-text": (opening(0, 1) + struct.pack("<Q", 2) + b"\xff\xfe", "no UTF-8"),
    "key-twice": (built([], 0, [key("a", 1), key("a", 1)]), "the key 'a' twice"),
    "kind": (opening(0, 1) + text("a") + struct.pack("<I", 13), "the kind 13"),
    "array": (opening(0, 1) + text("a") + struct.pack("<IIQ", ARRAY, UINT32, 2**61), "array of 2305843"),
    "strings": (opening(0, 1) + text("a") + struct.pack("<IIQ", ARRAY, STRING, 2**61), "array of 2305843"),
    "nested": (opening(0, 1) + text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1), "nested"),
    "truth": (opening(0, 1) + text("a") + struct.pack("<IB", 7, 2), "truth value of 2"),
    "split": (built([], 0, [key("split.count", 3)]), "one of 3 parts of a split GGUF"),
    "adapter": (built([], 0, [key("general.type", "adapter")]), "general.type = 'adapter'"),
    "alignment": (built([], 0, [key("general.alignment", 24)]), "general.alignment = 24"),
    "alignment-0": (built([], 0, [key("general.alignment", 0)]), "general.alignment = 0"),
    "no-dims": (built([text("a") + struct.pack("<IIQ", 0, 0, 0)], 0), "0 dimensions"),
    "many-dims": (built([line("a", (1,) * 5, 0)], 32), "5 dimensions"),
    "empty": (built([line("a", (0,), 0)], 32), r"the shape \[0\]"),
    "huge": (built([line("a", (2**63, 2**63), 0)], 32), "the shape"),
    "block": (built([line("a", (16,), 0, kind=8)], 32), "Q8_0 needs rows of a multiple of 32"),
    "other": (built([line("a", (256,), 0, kind=13)], 256), "'a' as Q5_K"),
    "unknown": (built([line("a", (256,), 0, kind=99)], 256), "'a' as kind 99"),
    "twice": (built([line("a", (8,), 0), line("a", (8,), 32)], 64), "tensor 'a' twice"),
    "overlap": (built([line("a", (8,), 0), line("b", (8,), 0)], 64), "'b' at byte 0 .* byte 32 comes next"),
    "gap": (built([line("a", (8,), 0), line("b", (8,), 64)], 96), "'b' at byte 64"),
    "outside": (built([line("a", (8,), 2**63)], 32), "'a' at byte 9223372036854775808"),
    "short": (built([line("a", (64,), 0)], 32), "the file is truncated"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies(tmp_path: Path, name: str) -> None:
    content, words = LIES[name]
    error = refused(tmp_path, content)
    assert isinstance(error, CheckpointCorrupt | UnsupportedConfig)
    with pytest.raises(type(error), match=words):
        raise error


def read_all(path: Path) -> None:
    """Everything that a server reads before it loads weights."""
    gguf_entries(read_gguf(path))
    read_generation_defaults(path)
    load_tokenizer_files(path)
    read_templates(path)


@pytest.mark.parametrize("seed", range(2))
def test_damaged_bytes_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    vocabulary = byte_level_metadata(cut_like("qwen2"), "qwen2")
    template = {"tokenizer.chat_template": "{{ messages }}"}
    path, _ = write_pair(tmp_path, MODELS["llama3"], Kind.Q8_0, **vocabulary, **template)
    whole = path.read_bytes()
    end = min(one.begin for one in read_gguf(path).tensors.values())
    read_all(path)
    dice = random.Random(seed)
    num_refused = 0
    for _ in range(40):
        content = bytearray(whole)
        # Half of the damage goes where counts, kinds and names stand, instead of into the long vocabulary.
        first = dice.choice((0, end - 2500))
        for _ in range(dice.randint(1, 4)):
            content[dice.randrange(first, end)] = dice.choice((0, 1, 7, 127, 255, dice.randrange(256)))
        cut = dice.choice((len(content), len(content), dice.randrange(len(content))))
        path.write_bytes(content[:cut])
        try:
            read_all(path)
        except CheckpointError:
            num_refused += 1
    assert num_refused > 10


def test_an_architecture_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(built([], 0))
    with pytest.raises(CheckpointCorrupt, match=r"names no general\.architecture"):
        _ = read_gguf(path).architecture


def test_arrays_keep_their_kinds(tmp_path: Path) -> None:
    metadata = {"a": [True, False], "b": [1.5, 2.5], "c": ["x", "y"], "d": [1, -2]}
    file = read_gguf(write_header(tmp_path / "model.gguf", metadata))
    assert {name: file.metadata[name] for name in metadata} == {k: tuple(v) for k, v in metadata.items()}
