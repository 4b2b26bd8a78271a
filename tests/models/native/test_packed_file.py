"""Packed weights come back byte for byte, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.kernels import why_none
from cynosure.kernels.memory import ALIGNMENT, Arena
from cynosure.models.native import packed_file
from cynosure.models.native.packed_file import PackedFile

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

SIZES = (1, ALIGNMENT, ALIGNMENT + 1, 5000, 1 << 16)


def arena_of(sizes: tuple[int, ...] = SIZES) -> Arena:
    arena = Arena()
    for number, size in enumerate(sizes):
        arena.take(size)
        list(arena.pieces)[-1][:] = bytes([number + 1]) * arena.sizes[-1]
    return arena


@pytest.fixture
def file(tmp_path: Path) -> PackedFile:
    file = PackedFile(tmp_path / "new" / "model.packed", "key")
    assert file.write(arena_of())
    return file


def test_pieces_come_back(file: PackedFile) -> None:
    arena = file.read()
    assert arena is not None
    assert arena.is_filled
    for size in SIZES:
        assert arena.num_left
        arena.take(size)
    assert not arena.num_left
    assert [bytes(piece) for piece in arena.pieces] == [bytes(piece) for piece in arena_of().pieces]
    assert [path.name for path in file.path.parent.iterdir()] == ["model.packed"]


@pytest.mark.parametrize("size", [1, 999, 1000, 4999, 5000, 1 << 20])
def test_slices_of_any_size_are_read_and_checked(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_file, "_SLICE", size)
    sizes = SIZES if size > 1 else SIZES[:2]
    file = PackedFile(tmp_path / "model.packed", "key")
    assert file.write(arena_of(sizes))
    arena = file.read()
    assert arena is not None
    assert bytes(arena.reserve) == b"".join(bytes(piece) for piece in arena_of(sizes).pieces)
    content = bytearray(file.path.read_bytes())
    content[-1] ^= 1
    file.path.write_bytes(content)
    assert file.read() is None


def test_there_is_none(tmp_path: Path) -> None:
    assert PackedFile(tmp_path / "model.packed", "key").read() is None


def test_another_key_finds_nothing_and_removes_what_is_old(file: PackedFile) -> None:
    assert PackedFile(file.path, "another").read() is None
    assert not file.path.exists()


@pytest.mark.parametrize("place", [0, 9, 20, 60, -1, -SIZES[-1], -SIZES[-1] - 1])
def test_a_flipped_bit_is_seen(file: PackedFile, place: int) -> None:
    content = bytearray(file.path.read_bytes())
    content[place] ^= 1
    file.path.write_bytes(content)
    assert file.read() is None
    assert not file.path.exists()


@pytest.mark.parametrize("length", [0, 7, 16, 100, -1, -SIZES[-1]])
def test_a_file_cut_short_is_seen(file: PackedFile, length: int) -> None:
    file.path.write_bytes(file.path.read_bytes()[:length])
    assert file.read() is None
    assert not file.path.exists()


def test_pieces_of_other_sizes_are_refused(file: PackedFile) -> None:
    arena = file.read()
    assert arena is not None
    arena.take(SIZES[0])
    with pytest.raises(EnvironmentFault, match="not those of this model"):
        arena.take(SIZES[3])


def test_more_pieces_than_there_are_are_refused(file: PackedFile) -> None:
    arena = file.read()
    assert arena is not None
    for size in SIZES:
        arena.take(size)
    with pytest.raises(EnvironmentFault, match="not those of this model"):
        arena.take(1)


def test_a_full_disk_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    file = PackedFile(tmp_path / "model.packed", "key")
    assert not file.write(arena_of())
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", fail)
    file = PackedFile(tmp_path / "model.packed", "key")
    assert not file.write(arena_of())
    assert not list(tmp_path.iterdir())
