"""Test indexing and asking one's own files from the terminal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.cli.own_docs import NAME, open_own_docs, own_index_path
from cynosure.cli.python_docs import ThreadedDocs
from cynosure.core.errors import IndexFault
from cynosure.models.embedder import Embedder

BREAD = (
    "# Sourdough\n\nFeed the starter daily.\n\n## Baking\n\nBake the loaf at 230 degrees for 40 minutes.\n"
)
QUESTION = "how hot must the oven be for the loaf"


@pytest.fixture(autouse=True)
def _without_a_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cynosure.cli.documentation.packed_ranker", lambda: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes")
    (folder / "bread.md").write_text(BREAD)
    (folder / "trip.html").write_text("<h1>Ferries</h1><p>The ferry to Naxos leaves Piraeus at noon.</p>")
    return folder


@pytest.fixture(scope="module")
def own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("own")
    assert main(["index", str(folder), "--index-dir", str(home)]) == 0
    return home


def _ask(own: Path, *words: str) -> int:
    return main([*words, "--store", NAME, "--index-dir", str(own)])


def test_answers_quote_the_file_at_its_place(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ask(own, "ask", QUESTION, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    first = answer["quotes"][0]
    assert (answer["answered"], answer["store"]) == (True, NAME)
    assert first["file"].endswith("/bread.md")
    assert first["text"] == BREAD[first["start"] : first["end"]]
    assert "230 degrees" in first["text"]
    assert first["attended"]
    assert _ask(own, "ask", QUESTION) == 0
    assert f"of the text of {first['file']}" in capsys.readouterr().out


def test_nothing_fits(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ask(own, "ask", "how do I merge sorted iterables") == 0
    assert capsys.readouterr().out.startswith("The documents do not say.")


def test_search_lists_parts(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _ask(own, "search", "when does the boat to Naxos sail") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "trip.html: Ferries" in lines[0]
    assert len(lines) == 3


def test_indexing_again_says_what_changed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "image.png").write_bytes(b"\x89PNG")
    command = ["index", str(folder), "--index-dir", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 files added, 0 changed, 0 unchanged, 0 dropped" in said
    assert "format not read: " in said
    assert "Own documents: 2 files, 3 parts" in said
    assert main(command) == 0
    assert "0 files added, 0 changed, 2 unchanged" in capsys.readouterr().out
    assert main([*command, "--forget"]) == 0
    assert "2 dropped" in capsys.readouterr().out
    (folder / "image.png").unlink()


def test_what_can_not_be_indexed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    for given, words in (("absent", "can't be found"), ("a.pdf", "qpdf")):
        assert main(["index", str(tmp_path / given), "--index-dir", str(tmp_path / "home")]) == 1
        assert words in capsys.readouterr().err
    assert main(["index", "status", "more", "--index-dir", str(tmp_path)]) == 1
    assert "stands alone" in capsys.readouterr().err


def test_an_index_that_is_absent_or_damaged(
    tmp_path: Path, own: Path, embedder: Embedder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _ask(tmp_path, "ask", QUESTION) == 1
    assert "Run `cynosure index PATH`" in capsys.readouterr().err
    own_index_path(tmp_path).write_bytes(own_index_path(own).read_bytes()[:5000])
    with pytest.raises(IndexFault, match="Remove the file"):
        open_own_docs(own_index_path(tmp_path), embedder)
    assert main(["index", str(own), "--index-dir", str(tmp_path)]) == 1


def test_the_server_asks_it_on_threads(own: Path, embedder: Embedder) -> None:
    docs = ThreadedDocs(open_own_docs(own_index_path(own), embedder))
    answer = asyncio.run(docs.ask(QUESTION, 1))
    assert (docs.name, docs.title) == (NAME, "Own documents")
    assert answer.quotes[0].file.endswith("bread.md")
