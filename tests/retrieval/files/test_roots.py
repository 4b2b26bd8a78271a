"""Test which paths are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import InputError, InputTooLong
from cynosure.retrieval.files import roots
from cynosure.retrieval.files.roots import Found, Root, files_below, merged, read_file


def test_roots_within_others_are_part_of_these() -> None:
    a, ab, c = (Root(Path(path)) for path in ("/a", "/a/b", "/c"))
    assert merged([a], [ab]) == ((a,), (a,))
    assert merged([ab, c], [a]) == ((a, c), (a,))
    assert merged([a], [c]) == ((a, c), (c,))


def test_files_are_listed_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.md", "a.md", ".x.md", ".git/a.md", "node_modules/a.md", "sub/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    root = Root(tmp_path)
    assert [root.label(found.path) for found in files_below(root)] == [
        f"{tmp_path.name}/{name}" for name in ("a.md", "b.md", "sub/c.md")
    ]
    assert Root(tmp_path / "a.md").label(tmp_path / "a.md") == "a.md"


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_sizes_at_the_limit(tmp_path: Path, extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "MAX_FILE_BYTES", 8)
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * (8 + extra))
    found = Found(file, Root(tmp_path.resolve()))
    if extra > 0:
        with pytest.raises(InputTooLong, match="the limit is"):
            read_file(found)
    else:
        assert len(read_file(found)) == 8 + extra


def test_a_file_outside_its_root_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="leads out"):
        read_file(Found(tmp_path / "in" / ".." / "a.txt", Root((tmp_path / "in").resolve())))
