"""The library, and our own reader, read back what was written."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

from cynosure.models.safetensor_files import read_header
from cynosure.models.safetensor_writer import NAMES, write_safetensors


def test_every_dtype_and_shape_comes_back(tmp_path: Path) -> None:
    tensors = {
        f"{name}.{len(shape)}": (torch.randn(shape) * 9).to(dtype)
        for dtype, name in NAMES.items()
        for shape in ((), (0, 3), (5,), (3, 1, 7))
    }
    tensors["turned"] = torch.randn(3, 4).t()
    tensors["learned"] = torch.nn.Parameter(torch.randn(3))
    path = tmp_path / "model.safetensors"
    write_safetensors(path, tensors, {"format": "pt", "with": "née"})
    read = load_file(path)
    assert read.keys() == tensors.keys()
    assert all(
        torch.equal(read[name], tensors[name]) and read[name].dtype == tensors[name].dtype for name in read
    )
    entries = read_header(path)
    assert all(entry.begin % tensors[name].dtype.itemsize == 0 for name, entry in entries.items())
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "with": "née"}


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "empty.safetensors", {}, {})
    assert load_file(tmp_path / "empty.safetensors") == {}
