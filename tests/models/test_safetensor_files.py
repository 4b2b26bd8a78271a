"""Test the reading of safetensors headers. Knows nothing of torch."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointNotFound,
    CheckpointUnsafe,
)
from cynosure.models.safetensor_files import INDEX, SINGLE, find_tensors, read_header

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(4, dtype=np.int64)


def file_of(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, whatever it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_finds_each_tensor_of_one_file(tmp_path: Path) -> None:
    save_file({"a": A, "b": B}, tmp_path / SINGLE, metadata={"format": "pt"})
    found = find_tensors(tmp_path)
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I64", (4,)),
    }
    one = found["a"]
    data = (tmp_path / SINGLE).read_bytes()[one.begin : one.end]
    assert np.frombuffer(data, np.float32).tolist() == A.reshape(-1).tolist()


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 40, -1])
def test_truncated_file(tmp_path: Path, cut: int) -> None:
    whole = save({"a": A})
    (tmp_path / SINGLE).write_bytes(whole[:cut])
    with pytest.raises(CheckpointCorrupt, match="truncated"):
        find_tensors(tmp_path)


LIES: dict[str, bytes] = {
    "header longer than the file": (10**6).to_bytes(8, "little") + b"{}",
    "huge header": (2**63).to_bytes(8, "little") + b"{}",
    "no JSON": file_of(b"{nonsense"),
    "deep JSON": file_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "not UTF-8": file_of(b'{"\xff\xfe": 1}'),
    "a list": file_of([1, 2]),
    "an entry that is a list": file_of({"a": [1]}),
    "a name twice": file_of(b'{"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}, "a": 1}'),
    "offsets beyond the file": file_of({"a": entry(offsets=(0, 400), shape=(100,))}, bytes(4)),
    "offsets that do not fit the shape": file_of({"a": entry(shape=(2,))}, bytes(4)),
    "offsets in reverse": file_of({"a": entry(offsets=(4, 0))}, bytes(4)),
    "a negative shape": file_of({"a": entry(shape=(-1,))}, bytes(4)),
    "a shape of booleans": file_of({"a": entry(shape=(True,))}, bytes(4)),
    "a shape that overflows": file_of({"a": entry(shape=(2**62, 2**62))}, bytes(4)),
    "an unknown dtype": file_of({"a": entry(dtype="F31")}, bytes(4)),
    "one offset": file_of({"a": entry(offsets=(0,))}, bytes(4)),
    "a gap": file_of({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "an overlap": file_of({"a": entry(), "b": entry(offsets=(2, 6))}, bytes(6)),
    "bytes at the end": file_of({"a": entry()}, bytes(9)),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_header_that_lies(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=SINGLE):
        find_tensors(tmp_path)


def test_the_same_header_told_true(tmp_path: Path) -> None:
    (tmp_path / SINGLE).write_bytes(file_of({"a": entry(), "b": entry(offsets=(4, 8))}, bytes(8)))
    assert list(find_tensors(tmp_path)) == ["a", "b"]


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda text: file_of(text, b"1234")))
def test_random_bytes_raise_only_our_errors(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(content)
    # The empty object is a valid header of no tensors.
    with contextlib.suppress(CheckpointError):
        assert read_header(path) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "F4", "BOOL", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 9), max_size=3) | JSON,
    }
)


@given(st.dictionaries(st.text(max_size=3), ENTRIES | JSON, max_size=3), st.binary(max_size=12))
def test_random_headers_raise_only_our_errors(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, object], data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(file_of(header, data))
    try:
        found = read_header(path)
    except CheckpointError:
        return
    assert sum(one.end - one.begin for one in found.values()) == len(data)


def shard(folder: Path, weight_map: object) -> None:
    save_file({"a": A}, folder / "one.safetensors")
    save_file({"b": B}, folder / "two.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    found = find_tensors(tmp_path)
    assert {name: one.file.name for name, one in found.items()} == {
        "a": "one.safetensors",
        "b": "two.safetensors",
    }


def test_what_a_shard_holds_beyond_the_index_is_not_dropped(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors"})
    save_file({"a": A, "extra": B}, tmp_path / "one.safetensors")
    assert set(find_tensors(tmp_path)) == {"a", "extra"}


def test_missing_shard(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors", "b": "three.safetensors"})
    with pytest.raises(CheckpointNotFound, match=r"lacks the shard three\.safetensors"):
        find_tensors(tmp_path)


def test_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    shard(tmp_path, {"a": "one.safetensors", "b": "one.safetensors"})
    with pytest.raises(CheckpointCorrupt, match="lacks the tensor b"):
        find_tensors(tmp_path)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "x.bin", 3, ""]
)
def test_shard_outside_of_the_folder(tmp_path: Path, name: object) -> None:
    save_file({"a": A}, tmp_path / "x.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    shard(folder, {"a": name})
    with pytest.raises(CheckpointUnsafe, match="plain name"):
        find_tensors(folder)


@pytest.mark.parametrize("weight_map", [None, {}, [1], "x"])
def test_index_without_a_map(tmp_path: Path, weight_map: object) -> None:
    shard(tmp_path, weight_map)
    with pytest.raises(CheckpointCorrupt, match="weight_map"):
        find_tensors(tmp_path)


def test_a_cache_of_links_is_read(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    save_file({"a": A}, tmp_path / "blobs" / "0123")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / SINGLE).symlink_to("../blobs/0123")
    assert set(find_tensors(tmp_path / "snapshot")) == {"a"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl"])
def test_pickled_weights_are_not_opened(tmp_path: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    # A real pickle, and one that tells when it is opened.
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointUnsafe, match=r"never opened\. Convert them .* python -c"):
        find_tensors(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="neither"):
        find_tensors(tmp_path)
