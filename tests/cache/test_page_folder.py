from __future__ import annotations

import os
from pathlib import Path

import pytest

from cynosure.cache.page_folder import PageFolder
from cynosure.core.errors import EnvironmentFault, InputError

SECRET, NAME, OTHER = b"s" * 32, b"n" * 32, b"o" * 32


@pytest.fixture
def folder(tmp_path: Path) -> PageFolder:
    return PageFolder(tmp_path / "cache", SECRET, ("pages", "lists"))


def file_of(tmp_path: Path, name: bytes = NAME) -> Path:
    return tmp_path / "cache" / "pages" / name.hex()


@pytest.mark.parametrize("content", [b"", b"x", b"page" * 1000])
def test_what_was_written_is_read(folder: PageFolder, tmp_path: Path, content: bytes) -> None:
    folder.write("pages", NAME, content)
    assert folder.read("pages", NAME) == content
    assert [name for name, _ in folder.names("pages")] == [NAME]
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "cache" / "pages").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_changed_byte_is_noticed_and_the_file_removed(
    folder: PageFolder, tmp_path: Path, place: int
) -> None:
    folder.write("pages", NAME, b"content")
    raw = bytearray(file_of(tmp_path).read_bytes())
    raw[place] ^= 1
    file_of(tmp_path).write_bytes(raw)
    assert folder.read("pages", NAME) is None
    assert not file_of(tmp_path).exists()


def test_what_was_cut_renamed_or_is_of_another_kind_is_not_served(folder: PageFolder, tmp_path: Path) -> None:
    for spoil in ("cut", "renamed", "kind"):
        folder.write("pages", NAME, b"content")
        raw = file_of(tmp_path).read_bytes()
        if spoil == "cut":
            file_of(tmp_path).write_bytes(raw[:-1])
            assert folder.read("pages", NAME) is None
        elif spoil == "renamed":
            file_of(tmp_path, OTHER).write_bytes(raw)
            assert folder.read("pages", OTHER) is None
        else:
            (tmp_path / "cache" / "lists" / NAME.hex()).write_bytes(raw)
            assert folder.read("lists", NAME) is None
            assert folder.read("pages", NAME) == b"content"


def test_another_secret_reads_nothing(folder: PageFolder, tmp_path: Path) -> None:
    folder.write("pages", NAME, b"content")
    folder.close()
    other = PageFolder(tmp_path / "cache", b"t" * 32, ("pages", "lists"))
    assert other.read("pages", NAME) is None


def test_links_and_pipes_are_not_followed(folder: PageFolder, tmp_path: Path) -> None:
    folder.write("pages", NAME, b"content")
    file_of(tmp_path, OTHER).symlink_to(file_of(tmp_path))
    assert folder.read("pages", OTHER) is None
    os.mkfifo(file_of(tmp_path, OTHER))
    assert folder.read("pages", OTHER) is None


def test_what_was_half_written_is_removed_when_it_is_opened(folder: PageFolder, tmp_path: Path) -> None:
    (tmp_path / "cache" / "pages" / "abc.draft").write_bytes(b"half")
    folder.close()
    PageFolder(tmp_path / "cache", SECRET, ("pages",))
    assert list((tmp_path / "cache" / "pages").iterdir()) == []


def test_one_process_at_a_time(folder: PageFolder, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="in use by another"):
        PageFolder(tmp_path / "cache", SECRET, ("pages",))
    folder.close()
    PageFolder(tmp_path / "cache", SECRET, ("pages",)).close()


def test_a_folder_with_somebodys_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        PageFolder(tmp_path, SECRET, ("pages",))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_can_not_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="can't be used"):
        PageFolder(tmp_path / "file" / "cache", SECRET, ("pages",))
