from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import EmptyInput
from cynosure.train.corpus import library_folder, read_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(60):
        path = tmp_path / f"part{index % 3}" / f"module{index}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"# text {index} é\n", encoding="utf-8")
    for name in ("test/test_a.py", "part0/tests/b.py", "site-packages/c.py", "part1/readme.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("left out")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9")
    (tmp_path / "empty.py").touch()
    return tmp_path


def test_each_text_is_learned_or_held_out(folder: Path) -> None:
    corpus = read_corpus(folder)
    assert corpus.held_out
    assert len(corpus.train) > 5 * len(corpus.held_out)
    assert sorted(corpus.train + corpus.held_out) == sorted(f"# text {index} é\n" for index in range(60))


def test_what_is_held_out_does_not_depend_on_what_else_there_is(folder: Path) -> None:
    before = read_corpus(folder)
    (folder / "new.py").write_text("new")
    after = read_corpus(folder)
    assert set(before.held_out) <= set(after.held_out)
    assert read_corpus(folder) == after


def test_a_part_of_the_library(tmp_path: Path) -> None:
    corpus = read_corpus(library_folder(), max_files=60)
    assert len(corpus.train) + len(corpus.held_out) <= 60
    with pytest.raises(EmptyInput, match="0 texts to learn from"):
        read_corpus(tmp_path)
