"""Test that an index follows its files, and that bad input leaves it as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cynosure.core.errors import EnvironmentFault, IndexFault, InputError, NotFound
from cynosure.retrieval import DocsSearch, Store, open_index
from cynosure.retrieval.files import (
    FILE_CALIBRATION,
    FILE_WEIGHTS,
    SOURCE,
    collection,
    growth,
    index_files,
    indexed_files,
    roots,
)
from cynosure.retrieval.files import pdf as pdf_reader
from cynosure.retrieval.files.formats import read_text
from tests.retrieval.fakes import BagOfWords
from tests.retrieval.files.made_documents import docx, paragraph, pdf, written

KILLED = """
import os, signal, sys
from pathlib import Path
from cynosure.retrieval import store
from cynosure.retrieval.files import index_files
from tests.retrieval.fakes import BagOfWords

class Killer(BagOfWords):
    def embed(self, texts):
        os.kill(os.getpid(), signal.SIGKILL)

real, calls = store._digest, []

def die(connection):
    # First the old index is checked, then the new one is sealed.
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(connection)

index, folder, when = sys.argv[1:]
if when == "writing":
    store._digest = die
index_files(Path(index), [Path(folder)], Killer() if when == "embedding" else BagOfWords())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "bread.md").write_text(
        "# Sourdough\n\nFeed the starter daily.\n\n## Baking\n\nBake at 230 degrees.\n"
    )
    (folder / "sub" / "trip.txt").write_text("The ferry to Naxos leaves at noon.\n")
    return folder


@pytest.fixture
def index(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "index" / "documents.sqlite"
    index_files(path, [folder], BagOfWords())
    return path


def _open(path: Path) -> Store:
    return open_index(path, SOURCE, BagOfWords())


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in _open(path).contents.entries)


def test_parts_are_found_with_offsets_into_the_file(folder: Path, index: Path) -> None:
    assert _names(index) == [
        "notes/bread.md: Sourdough", "notes/bread.md: Sourdough > Baking", "notes/sub/trip.txt",
    ]  # fmt: skip
    search = DocsSearch(_open(index), BagOfWords(), FILE_WEIGHTS, FILE_CALIBRATION)
    found = search.search("bake at 230 degrees", 1)
    hit = found.hits[0]
    assert found.fits
    assert (hit.name, hit.module) == ("notes/bread.md: Sourdough > Baking", "notes/bread.md")
    assert hit.start > 0
    assert hit.text == (folder / "bread.md").read_text()[hit.start : hit.end]
    assert not search.search("quantum chromodynamics", 1).fits


def test_a_citation_names_the_page_or_the_heading(folder: Path, index: Path) -> None:
    contents = {
        "oven.pdf": pdf(
            written("A cover."), written("Preheat the oven.", "Bake at 250 degrees."), packed=True
        ),
        "cake.docx": docx(
            paragraph("Cake", "H1") + paragraph("Whisk seven eggs."),
            '<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>',
        ),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    change = index_files(index, [folder], BagOfWords())
    assert (len(change.added), change.kept, change.left_out) == (2, 2, ())
    search = DocsSearch(_open(index), BagOfWords(), FILE_WEIGHTS, FILE_CALIBRATION)
    for question, place, quoted in (
        ("preheat oven bake at 250", "oven.pdf: page 2", "Preheat the oven.\nBake at 250 degrees."),
        ("whisk seven eggs", "cake.docx: Cake", "Cake\nWhisk seven eggs."),
    ):
        hit = search.search(question, 1).hits[0]
        name = place.partition(":")[0]
        assert (hit.name, hit.module, hit.text) == (f"notes/{place}", f"notes/{name}", quoted)
        assert hit.text == read_text(name, contents[name]).text[hit.start : hit.end]
    assert index_files(index, [folder], BagOfWords()).kept == 4


def test_where_a_package_is_missing_the_index_stays(
    folder: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.pdf").write_bytes(pdf(written("text")))
    monkeypatch.setattr(pdf_reader.util, "find_spec", lambda name: None)
    before = index.read_bytes()
    with pytest.raises(InputError, match=r"nothing was indexed: .*a\.pdf.*cynosure\[retrieval\]"):
        index_files(index, [folder], BagOfWords())
    assert index.read_bytes() == before
    assert len(index_files(index, [folder], BagOfWords(), skips_faulty=True).faults) == 1


def test_only_what_changed_is_embedded(folder: Path, index: Path) -> None:
    (folder / "bread.md").write_text("# Rye\n\nNo starter.\n")
    (folder / "new.txt").write_text("A new file.")
    embedder = BagOfWords()
    before = _open(index).contents
    change = index_files(index, [folder], embedder)
    resolved = folder.resolve()
    assert change.changed == (str(resolved / "bread.md"),)
    assert change.added == (str(resolved / "new.txt"),)
    assert (change.kept, change.dropped) == (1, ())
    after = _open(index).contents
    kept = next(n for n, one in enumerate(after.entries) if one.module.endswith("trip.txt"))
    old = next(n for n, one in enumerate(before.entries) if one.module.endswith("trip.txt"))
    rows = [row for row, one in enumerate(after.passages) if one.entry == kept]
    old_rows = [row for row, one in enumerate(before.passages) if one.entry == old]
    np.testing.assert_array_equal(after.vectors[rows], before.vectors[old_rows])
    assert sum(embedder.calls) == len(after.passages) - len(rows)
    fresh = index.with_name("fresh.sqlite")
    index_files(fresh, [folder], BagOfWords())
    assert _names(fresh) == _names(index)
    quiet = BagOfWords()
    assert index_files(index, [folder], quiet).kept == 3
    assert quiet.calls == []


def test_deleted_files_are_dropped_and_paths_forgotten(folder: Path, index: Path, tmp_path: Path) -> None:
    (folder / "bread.md").unlink()
    assert index_files(index, [folder], BagOfWords()).dropped == (str(folder.resolve() / "bread.md"),)
    other = tmp_path / "other.txt"
    other.write_text("Something else.")
    index_files(index, [other], BagOfWords())
    assert indexed_files(_open(index)) == ((folder.resolve(), other.resolve()), 2)
    other.unlink()
    index_files(index, [other], BagOfWords(), forgets=True)
    assert _names(index) == ["notes/sub/trip.txt"]
    index_files(index, [folder], BagOfWords(), forgets=True)
    assert _names(index) == []
    with pytest.raises(InputError, match="no path of the index"):
        index_files(index, [folder], BagOfWords(), forgets=True)


def test_a_path_within_another_and_above_it(folder: Path, index: Path, tmp_path: Path) -> None:
    index_files(index, [folder / "sub"], BagOfWords())
    assert indexed_files(_open(index)) == ((folder.resolve(),), 2)
    above = tmp_path / "above"
    above.mkdir()
    folder.rename(above / "notes")
    folder.mkdir()
    change = index_files(index, [above, folder], BagOfWords())
    assert len(change.added) == len(change.dropped) == 2
    assert "above/notes/sub/trip.txt" in _names(index)


def _binary(folder: Path) -> None:
    (folder / "bad.md").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")


def _nul(folder: Path) -> None:
    (folder / "bad.txt").write_bytes(b"text\0more")


def _latin(folder: Path) -> None:
    (folder / "bad.html").write_bytes("<p>café".encode("latin-1"))


def _huge(folder: Path) -> None:
    with open(folder / "bad.log", "wb") as file:
        file.truncate(200 << 20)


def _huge_pdf(folder: Path) -> None:
    with open(folder / "bad.pdf", "wb") as file:
        file.write(pdf(written("A page before two hundred megabytes.")))
        file.truncate(200 << 20)


def _huge_docx(folder: Path) -> None:
    with open(folder / "bad.docx", "wb") as file:
        file.truncate(200 << 20)


def _encrypted_pdf(folder: Path) -> None:
    locked = b"/Encrypt << /Filter /Standard /V 5 /R 6 /Length 256 /O (x) /U (y) /P -4 >>"
    (folder / "bad.pdf").write_bytes(pdf(written("secret"), trailer=locked))


def _scanned_pdf(folder: Path) -> None:
    (folder / "bad.pdf").write_bytes(pdf(b"0 0 612 792 re f"))


def _damaged_docx(folder: Path) -> None:
    (folder / "bad.docx").write_bytes(docx(paragraph("cut off"))[:-60])


def _pdf_as_markdown(folder: Path) -> None:
    (folder / "bad.md").write_bytes(pdf(written("A report.")))


def _bomb(folder: Path) -> None:
    (folder / "bad.docx").write_bytes(docx(paragraph("text") + " " * (129 << 20)))


def _link_out(folder: Path) -> None:
    (folder / "bad.txt").symlink_to("/etc/passwd")


def _folder_link_out(folder: Path) -> None:
    (folder / "bad").symlink_to("/etc")


def _link_nowhere(folder: Path) -> None:
    (folder / "bad.txt").symlink_to(folder / "absent")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad.txt")


BAD: list[tuple[Callable[[Path], None], str]] = [
    (_binary, "not UTF-8: byte 0x89 at 0"),
    (_nul, "binary"),
    (_latin, "not UTF-8: byte 0xe9 at 6"),
    (_huge, "200.0 MiB; the limit is 16 MiB"),
    (_huge_pdf, "200.0 MiB; the limit is 16 MiB"),
    (_huge_docx, "200.0 MiB; the limit is 16 MiB"),
    (_encrypted_pdf, "is encrypted"),
    (_scanned_pdf, "no text in its 1 pages"),
    (_damaged_docx, "is damaged"),
    (_pdf_as_markdown, "is a PDF, not text"),
    (_bomb, "unpacks to over 128 MiB"),
    (_link_out, "leads out of the indexed paths"),
    (_folder_link_out, "leads out of the indexed paths"),
    (_link_nowhere, "leads nowhere"),
    (_pipe, "no regular file"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_bad_input_leaves_the_index_as_it_was(
    folder: Path, index: Path, spoil: Callable[[Path], None], words: str
) -> None:
    (folder / "good.txt").write_text("A good file that must not be added alone.")
    spoil(folder)
    before = index.read_bytes()
    with pytest.raises(InputError, match=words) as refused:
        index_files(index, [folder], BagOfWords())
    assert "nothing was indexed" in str(refused.value)
    assert "bad" in str(refused.value)
    assert index.read_bytes() == before
    # Asked to, a run goes on without the faulty file, and says so.
    change = index_files(index, [folder], BagOfWords(), skips_faulty=True)
    assert len(change.faults) == len(change.added) == 1
    assert words in change.faults[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.doc", "soffice"),
        ("a.epub", "Unpack it"),
        ("a.png", "end in .png are not read"),
        ("a", "without an ending"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(
    folder: Path, index: Path, name: str, words: str
) -> None:
    (folder / name).write_bytes(b"of no interest: none is opened")
    before = index.read_bytes()
    with pytest.raises(InputError, match=words):
        index_files(index, [folder / name], BagOfWords())
    with pytest.raises(InputError, match=words):
        index_files(index.with_name("new.sqlite"), [folder / name], BagOfWords())
    assert index.read_bytes() == before
    assert not index.with_name("new.sqlite").exists()
    change = index_files(index, [folder], BagOfWords())
    assert change.left_out == (str(folder.resolve() / name),)


def test_links_within_are_read_once(folder: Path, index: Path) -> None:
    (folder / "again.md").symlink_to(folder / "bread.md")
    (folder / "loop").symlink_to(folder)
    (folder / ".hidden.md").write_text("secret")
    assert index_files(index, [folder], BagOfWords()).kept == 2
    assert len(_names(index)) == 3


@pytest.mark.parametrize("happens", ["deleted", "changed", "linked"])
def test_a_file_that_goes_while_it_is_read(
    folder: Path, index: Path, happens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index.read_bytes()
    victim = folder.resolve() / "bread.md"
    opening = os.open

    def interfere(path: object, *rest: int, **more: object) -> int:
        if path == victim:
            if happens == "changed":
                opened = opening(path, *rest)
                seen = os.fstat(opened)
                fstat = iter([seen])
                monkeypatch.setattr(roots.os, "fstat", lambda number: next(fstat, None) or os.stat(victim))
                victim.write_text("Longer than it was before, by far, and still growing. " * 9)
                return opened
            victim.unlink()
            if happens == "linked":
                victim.symlink_to("/etc/passwd")
        return opening(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(roots.os, "open", interfere)
    with pytest.raises(InputError, match=r"bread\.md (was deleted|changed|can't be read)"):
        index_files(index, [folder], BagOfWords())
    monkeypatch.undo()
    assert index.read_bytes() == before


@pytest.mark.parametrize("when", ["embedding", "writing"])
def test_a_kill_leaves_the_old_index(folder: Path, index: Path, when: str) -> None:
    before = index.read_bytes()
    (folder / "new.txt").write_text("A new file.")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(index), str(folder), when],
        cwd=Path(__file__).parents[3],
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert index.read_bytes() == before
    assert len(_names(index)) == 3
    assert bool([*index.parent.glob("*.part")]) == (when == "writing")
    assert len(index_files(index, [folder], BagOfWords()).added) == 1
    assert sorted(one.name for one in index.parent.iterdir()) == ["documents.sqlite", "documents.sqlite.lock"]


def test_two_writers(folder: Path, index: Path) -> None:
    with collection._sole_writer(index), pytest.raises(EnvironmentFault, match="another process"):
        index_files(index, [folder], BagOfWords())


def test_paths_that_are_none(index: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="can't be found"):
        index_files(index, [tmp_path / "absent"], BagOfWords())
    with pytest.raises(InputError, match="neither"):
        index_files(index, [Path("/dev/null")], BagOfWords())


def test_namesakes_are_refused(index: Path, tmp_path: Path) -> None:
    other = tmp_path / "b" / "notes"
    other.mkdir(parents=True)
    (other / "bread.md").write_text("Other bread.")
    with pytest.raises(InputError, match=r"would both be called notes/bread\.md"):
        index_files(index, [other], BagOfWords())


def test_limits(folder: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(collection, "MAX_FILES", 1)
        with pytest.raises(InputError, match="over 1 files"):
            index_files(index, [folder], BagOfWords())
    monkeypatch.setattr(growth, "MAX_TEXT", 10)
    (folder / "bread.md").write_text("Longer than ten characters.")
    with pytest.raises(InputError, match="the limit is 0 Mi"):
        index_files(index, [folder], BagOfWords())


def test_another_embedder_is_refused(folder: Path, index: Path) -> None:
    with pytest.raises(IndexFault, match="stale"):
        index_files(index, [folder], BagOfWords("other"))
