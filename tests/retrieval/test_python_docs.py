"""Test the reading of the interpreter's documentation: what is public, verbatim, and without a trace."""

from __future__ import annotations

import builtins
import heapq
import sys
from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval.documents import Documentation, Entry
from cynosure.retrieval.python_docs import read_python_docs


@pytest.fixture(scope="module")
def docs() -> Documentation:
    return read_python_docs()


@pytest.fixture(scope="module")
def book(docs: Documentation) -> dict[str, Entry]:
    return {entry.name: entry for entry in docs.entries}


def test_docstrings_are_verbatim(book: dict[str, Entry]) -> None:
    assert book["heapq.merge"].doc == heapq.merge.__doc__
    assert book["str.join"].doc == str.join.__doc__
    assert book["heapq.merge"].signature == "(*iterables, key=None, reverse=False)"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("heapq", "module"),
        ("os.path.join", "function"),
        ("pathlib.PurePath.suffix", "property"),
        ("collections.Counter", "class"),
        ("argparse.ArgumentParser.add_argument", "method"),
        ("random.shuffle", "function"),
        ("asyncio.gather", "function"),
        ("str.casefold", "method"),
        ("len", "function"),
    ],
)
def test_public_objects_have_their_public_names(book: dict[str, Entry], name: str, kind: str) -> None:
    assert book[name].kind == kind


def test_an_object_has_one_entry(book: dict[str, Entry]) -> None:
    assert "json.decoder.JSONDecoder" in book["json.JSONDecoder"].aliases
    assert "json.decoder.JSONDecoder" not in book
    assert "posixpath.join" not in book
    assert "bytearray.title" in book["bytes.title"].aliases
    names = [name for entry in book.values() for name in (entry.name, *entry.aliases)]
    assert len(book) == len(set(book)) > 5000
    assert not set(book) & {alias for entry in book.values() for alias in entry.aliases}
    assert len(names) > len(book)


def test_private_and_noisy_things_are_left_out(book: dict[str, Entry]) -> None:
    assert not [name for name in book if any(part.startswith("_") for part in name.split("."))]
    assert not {"antigravity", "this", "idlelib", "test"} & {name.split(".")[0] for name in book}
    assert all(entry.doc.strip() for entry in book.values())


def test_a_module_that_does_not_import_is_recorded(docs: Documentation) -> None:
    absent = {"win32": "termios", "linux": "winreg", "darwin": "winreg"}[sys.platform]
    assert "Error" in docs.failed[absent]


def test_reading_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules), set(vars(builtins))
    read_python_docs()
    assert capfd.readouterr() == ("", "")
    assert (set(sys.modules), set(vars(builtins))) == before


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit(3)", "status 3"),
        ("import time; time.sleep(60)", "more than 5 s"),
        ('print(\'{"fault": "it broke"}\')', "it broke"),
        ("print('half a docu')", "no document"),
    ],
)
def test_a_failed_reading_says_why(tmp_path: Path, script: str, said: str) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text(script)
    with pytest.raises(EnvironmentFault, match=said):
        read_python_docs(reader, max_seconds=5.0)
