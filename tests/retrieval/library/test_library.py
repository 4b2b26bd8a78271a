"""Test that what is uploaded is found by its owner alone, and that no kill, fault or deletion breaks that."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float32

from cynosure.core.errors import EnvironmentFault, IndexFault, InputError, InputTooLong, NotFound
from cynosure.retrieval.library import Comparison, Library, LibraryLimits, Placement, Shelf
from cynosure.retrieval.library import indexing as indexing_module
from tests.retrieval.fakes import BagOfWords
from tests.retrieval.files.made_documents import docx, paragraph, pdf, written

BREAD = b"# Sourdough\n\nFeed the starter daily.\n\n## Baking\n\nBake at 230 degrees.\n"
TRIP = b"The ferry to Naxos leaves at noon.\n"

KILLED = """
import os, signal, sys, time
from pathlib import Path
from cynosure.retrieval import store
from cynosure.retrieval.library import Library, Placement, catalog
from tests.retrieval.fakes import BagOfWords

folder, store_id, when = sys.argv[1:]

def die(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

class Killer(BagOfWords):
    embed = die

if when == "writing":
    store._digest = die
if when == "settling":
    catalog.Catalog.settle = die
shelf = Library(Path(folder), Killer() if when == "embedding" else BagOfWords()).of("")
file = shelf.add_file("trip.txt", "assistants", b"The ferry to Naxos leaves at noon.")
shelf.put(store_id, [Placement(file.id)])
time.sleep(30)
"""


class Gated(BagOfWords):
    """Embeds when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.is_asked = threading.Event()

    def embed(self, texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        self.is_asked.set()
        assert self.gate.wait(20)
        return super().embed(texts)


@pytest.fixture
def embedder() -> Gated:
    return Gated()


@pytest.fixture
def library(tmp_path: Path, embedder: Gated) -> Iterator[Library]:
    made = Library(tmp_path / "files", embedder)
    yield made
    embedder.gate.set()
    made.close()


@pytest.fixture
def shelf(library: Library) -> Shelf:
    return library.of("")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def settled(shelf: Shelf, store_id: str) -> None:
    until(lambda: shelf.store(store_id).counts.in_progress == 0 and store_id not in shelf.catalog.stale())


def filled(shelf: Shelf, **files: bytes) -> tuple[str, dict[str, str]]:
    """A store of files, whose names have an underscore for the dot, and their ids."""
    ids = {
        name: shelf.add_file(name.replace("_", "."), "assistants", content).id
        for name, content in files.items()
    }
    store = shelf.add_store(
        "mine", "", {}, [Placement(file_id, {"of": name}) for name, file_id in ids.items()]
    )
    settled(shelf, store.id)
    return store.id, ids


def found(shelf: Shelf, store_id: str, query: str) -> list[str]:
    return [hit.text for hit in shelf.search(store_id, query, 5)]


def test_passages_are_found_with_their_place_in_the_file(shelf: Shelf) -> None:
    store, ids = filled(shelf, bread_md=BREAD, trip_txt=TRIP)
    hit = shelf.search(store, "bake at 230 degrees", 1)[0]
    assert (hit.file_id, hit.filename) == (ids["bread_md"], "bread.md")
    assert (hit.name, hit.kind, hit.attributes) == (
        "bread.md: Sourdough > Baking",
        "section",
        {"of": "bread_md"},
    )
    assert (
        shelf.text_of(store, hit.file_id)[hit.start : hit.end]
        == hit.text
        == "## Baking\n\nBake at 230 degrees."
    )
    assert 0.5 < hit.score <= 1
    counts = shelf.store(store).counts
    assert (counts.completed, counts.total) == (2, 2)
    assert shelf.store(store).num_bytes == sum(one.num_bytes for one in shelf.shelved(store)) > len(TRIP)


def test_what_is_put_in_later_keeps_the_vectors_of_the_others(shelf: Shelf, embedder: Gated) -> None:
    store, _ = filled(shelf, bread_md=BREAD)
    embedder.calls.clear()
    shelf.put(store, [Placement(shelf.add_file("trip.txt", "assistants", TRIP).id)])
    settled(shelf, store)
    assert embedder.calls == [1]
    assert found(shelf, store, "ferry")[0] == TRIP.decode().strip()
    assert found(shelf, store, "starter")[0].startswith("# Sourdough")


def test_two_files_of_one_name_are_two(shelf: Shelf) -> None:
    files = [shelf.add_file("a.txt", "assistants", text) for text in (b"one apple", b"two pears")]
    store = shelf.add_store("", "", {}, [Placement(one.id) for one in files]).id
    settled(shelf, store)
    assert {hit.file_id for hit in shelf.search(store, "apple pears", 5)} == {one.id for one in files}


def test_a_filter_makes_room_for_what_it_admits(shelf: Shelf) -> None:
    """Left out before the best are taken: the one that is admitted is found, though others are nearer."""
    store, ids = filled(shelf, a_txt=b"apple", b_txt=b"apple apple", c_txt=b"apple and a pear")
    best = shelf.search(store, "apple", 1)[0].file_id
    assert best != ids["c_txt"]
    only = Comparison("of", "eq", ("c_txt",))
    assert [hit.file_id for hit in shelf.search(store, "apple", 1, only)] == [ids["c_txt"]]
    assert shelf.search(store, "apple", 1, Comparison("of", "eq", ("none",))) == []


def test_what_is_deleted_is_found_no_more_at_once_and_leaves_no_byte(
    shelf: Shelf, embedder: Gated, tmp_path: Path
) -> None:
    store, ids = filled(shelf, bread_md=BREAD, trip_txt=TRIP)
    # Held up, so that nothing but the catalog can tell.
    embedder.gate.clear()
    shelf.put(store, [Placement(shelf.add_file("c.txt", "assistants", b"carrots").id)])
    embedder.is_asked.wait(20)
    shelf.remove_file(ids["trip_txt"])
    embedder.gate.set()
    assert all("ferry" not in text for text in found(shelf, store, "ferry to Naxos"))
    settled(shelf, store)
    assert all("ferry" not in text for text in found(shelf, store, "ferry to Naxos"))
    with pytest.raises(NotFound):
        shelf.content(ids["trip_txt"])
    kept = [path.read_bytes() for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert not any(b"Naxos" in content for content in kept)
    assert any(b"Sourdough" in content for content in kept), "the positive control"


def test_a_file_that_is_deleted_while_it_is_indexed(shelf: Shelf, embedder: Gated) -> None:
    store, _ = filled(shelf, bread_md=BREAD)
    embedder.gate.clear()
    embedder.is_asked.clear()
    file = shelf.add_file("trip.txt", "assistants", TRIP)
    shelf.put(store, [Placement(file.id)])
    assert embedder.is_asked.wait(20)
    shelf.remove_file(file.id)
    embedder.gate.set()
    settled(shelf, store)
    assert [one.filename for one in shelf.shelved(store)] == ["bread.md"]
    assert all("ferry" not in text for text in found(shelf, store, "ferry to Naxos"))


def test_a_store_that_is_deleted_while_it_is_indexed(shelf: Shelf, embedder: Gated, tmp_path: Path) -> None:
    embedder.gate.clear()
    file = shelf.add_file("trip.txt", "assistants", TRIP)
    store = shelf.add_store("", "", {}, [Placement(file.id)]).id
    assert embedder.is_asked.wait(20)
    shelf.remove_store(store)
    embedder.gate.set()
    other, _ = filled(shelf, bread_md=BREAD)
    until(lambda: [path.stem for path in (tmp_path / "files").rglob("vs_*")] == [other])
    assert shelf.content(file.id) == TRIP, "its files stay"
    with pytest.raises(NotFound):
        shelf.search(store, "ferry", 1)


BAD = {
    "binary.md": (b"# Bread\n\x00\x01\x02", "invalid_file", "binary"),
    "latin.txt": ("Käse".encode("latin-1"), "invalid_file", "not UTF-8"),
    "locked.pdf": (
        pdf(written("Secret."), trailer=b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (x) /U (y) /P -4 >>"),
        "invalid_file",
        "encrypted",
    ),
    "cut.docx": (docx(paragraph("Cake"))[:-40], "invalid_file", "damaged|no DOCX|ZIP"),
    "empty.md": (b" \n", "invalid_file", "holds no text"),
    "photo.png": (b"\x89PNG", "unsupported_file", "not read"),
    "plain": (b"text", "unsupported_file", "not read"),
    "book.epub": (b"PK", "unsupported_file", "Unpack it"),
}


def test_a_bad_file_fails_alone_and_says_why(shelf: Shelf) -> None:
    files = {name: shelf.add_file(name, "assistants", content) for name, (content, *_) in BAD.items()}
    good = shelf.add_file("bread.md", "assistants", BREAD)
    store = shelf.add_store("", "", {}, [Placement(one.id) for one in (*files.values(), good)]).id
    settled(shelf, store)
    counts = shelf.store(store).counts
    assert (counts.failed, counts.completed) == (len(BAD), 1)
    for name, (_, code, words) in BAD.items():
        one = shelf.one_shelved(store, files[name].id)
        assert one.fault is not None
        assert one.fault.code == code, one.fault
        assert any(word in one.fault.message for word in words.split("|")), one.fault
    assert found(shelf, store, "starter")


def test_a_fault_of_the_embedder_fails_what_is_new_and_keeps_what_was_found(
    shelf: Shelf, embedder: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = filled(shelf, bread_md=BREAD)
    file = shelf.add_file("trip.txt", "assistants", TRIP)
    with monkeypatch.context() as patch:
        patch.setattr(embedder, "embed", lambda texts: 1 / 0)
        shelf.put(store, [Placement(file.id)])
        until(lambda: shelf.one_shelved(store, file.id).state == "failed")
    fault = shelf.one_shelved(store, file.id).fault
    assert fault is not None
    assert fault.code == "server_error"
    assert "division" not in fault.message, "what is inside stays there"
    assert found(shelf, store, "starter")
    shelf.put(store, [Placement(file.id)])
    settled(shelf, store)
    assert found(shelf, store, "ferry to Naxos")[0] == TRIP.decode().strip()


@pytest.mark.parametrize("when", ["embedding", "writing", "settling"])
def test_a_kill_leaves_the_old_index_and_the_next_start_goes_on(tmp_path: Path, when: str) -> None:
    folder = tmp_path / "files"
    before = Library(folder, BagOfWords())
    store, _ = filled(before.of(""), bread_md=BREAD)
    before.close()
    index = folder / "anybody" / f"{store}.sqlite"
    before_bytes = index.read_bytes()
    command = [sys.executable, "-c", KILLED, str(folder), store, when]
    done = subprocess.run(command, timeout=60, check=False, cwd=Path(__file__).parents[3])
    assert done.returncode == -signal.SIGKILL
    if when != "settling":
        assert index.read_bytes() == before_bytes
    after = Library(folder, BagOfWords())
    try:
        shelf = after.of("")
        assert found(shelf, store, "starter")[0].startswith("# Sourdough")
        settled(shelf, store)
        assert shelf.store(store).counts.completed == 2
        assert found(shelf, store, "ferry to Naxos")[0] == TRIP.decode().strip()
        assert list(folder.rglob("*.part")) == []
    finally:
        after.close()


def test_a_stop_gives_up_what_is_indexed_and_the_next_start_goes_on(
    library: Library, embedder: Gated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing_module, "ROUND_CHARS", 1)
    shelf = library.of("")
    embedder.gate.clear()
    files = [shelf.add_file(f"{name}.txt", "assistants", name.encode()) for name in ("apple", "pear")]
    store = shelf.add_store("", "", {}, [Placement(one.id) for one in files]).id
    assert embedder.is_asked.wait(20)
    closing = threading.Thread(target=library.close)
    closing.start()
    embedder.gate.set()
    closing.join(20)
    assert not closing.is_alive()
    after = Library(tmp_path / "files", BagOfWords())
    settled(after.of(""), store)
    assert after.of("").store(store).counts.completed == 2, "given up, and not failed"
    after.close()


def test_tenants_are_apart(library: Library) -> None:
    anna, ben = library.of("a" * 32), library.of("b" * 32)
    store, ids = filled(anna, bread_md=BREAD)
    assert ben.files() == ben.stores() == []
    mine = ben.add_store("", "", {}).id
    for call in (
        lambda: ben.file(ids["bread_md"]),
        lambda: ben.content(ids["bread_md"]),
        lambda: ben.remove_file(ids["bread_md"]),
        lambda: ben.store(store),
        lambda: ben.search(store, "starter", 1),
        lambda: ben.put(mine, [Placement(ids["bread_md"])]),
        lambda: ben.shelved(store),
        lambda: ben.add_store("", "", {}, [Placement(ids["bread_md"])]),
    ):
        with pytest.raises(NotFound):
            call()
    assert [one.id for one in ben.stores()] == [mine]
    assert found(anna, store, "starter"), "the positive control"


def test_a_second_server_is_refused_until_the_first_has_ended(library: Library, tmp_path: Path) -> None:
    library.of("")
    second = Library(tmp_path / "files", BagOfWords())
    with pytest.raises(EnvironmentFault, match="another server keeps files"):
        second.of("")
    library.close()
    assert second.of("").files() == []
    second.close()


def test_limits(tmp_path: Path) -> None:
    limits = LibraryLimits(max_file_bytes=10, max_files=3, max_bytes=25, max_stores=1)
    library = Library(tmp_path / "files", BagOfWords(), limits)
    shelf = library.of("")
    shelf.add_file("a.txt", "assistants", b"1234567890")
    with pytest.raises(InputTooLong, match="11 bytes; the limit is 10"):
        shelf.add_file("a.txt", "assistants", b"12345678901")
    shelf.add_file("b.txt", "assistants", b"1234567890")
    with pytest.raises(InputTooLong, match="25"):
        shelf.add_file("c.txt", "assistants", b"123456")
    last = shelf.add_file("c.txt", "assistants", b"12345")
    with pytest.raises(InputTooLong, match="3 files"):
        shelf.add_file("d.txt", "assistants", b"")
    shelf.remove_file(last.id)
    shelf.add_file("d.txt", "assistants", b"")
    with pytest.raises(NotFound):
        shelf.add_store("", "", {}, [Placement("file-absent")])
    assert shelf.stores() == [], "all or nothing"
    shelf.add_store("", "", {})
    with pytest.raises(InputTooLong, match="vector stores"):
        shelf.add_store("", "", {})
    library.close()


@pytest.mark.parametrize("name", ["", " ", "..", "../a.md", "/etc/passwd", "a\\b.md", "a\n.md", "x" * 121])
def test_names_that_are_none(shelf: Shelf, name: str) -> None:
    with pytest.raises(InputError):
        shelf.add_file(name, "assistants", b"text")
    assert shelf.add_file("x" * 117 + ".md", "assistants", b"text").num_bytes == 4


def test_a_damaged_index_is_made_again_of_the_files(shelf: Shelf, tmp_path: Path) -> None:
    store, _ = filled(shelf, bread_md=BREAD)
    [index] = (tmp_path / "files").rglob(f"{store}.sqlite")
    index.write_bytes(b"no index")
    shelf.forget_open(store)
    with pytest.raises(IndexFault, match="made again"):
        shelf.search(store, "starter", 1)
    settled(shelf, store)
    assert found(shelf, store, "starter")


def test_much_is_indexed_in_rounds(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing_module, "ROUND_CHARS", 1)
    store, ids = filled(shelf, bread_md=BREAD, trip_txt=TRIP, c_txt=b"carrots")
    assert shelf.store(store).counts.completed == len(ids)
    assert len(found(shelf, store, "starter ferry carrots")) == 4


def test_batches_and_attributes(shelf: Shelf) -> None:
    store, ids = filled(shelf, bread_md=BREAD)
    file = shelf.add_file("trip.txt", "assistants", TRIP)
    batch = shelf.put(store, [Placement(file.id)], is_batch=True)
    settled(shelf, store)
    assert shelf.batch(store, batch).counts.completed == 1
    assert [one.id for one in shelf.shelved(store, batch)] == [file.id]
    shelf.describe(store, file.id, {"year": 2024})
    assert shelf.search(store, "ferry", 5, Comparison("year", "gte", (2024,)))[0].file_id == file.id
    shelf.take_out(store, ids["bread_md"])
    assert {hit.file_id for hit in shelf.search(store, "starter", 5)} == {file.id}
    with pytest.raises(InputError, match="twice"):
        shelf.put(store, [Placement(file.id), Placement(file.id)])
    with pytest.raises(NotFound):
        shelf.put(store, [Placement(file.id), Placement("file-absent")])
