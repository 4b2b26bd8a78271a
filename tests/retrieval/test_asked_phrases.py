"""Test the phrases that come with the package, and that they lead to the objects of this Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.retrieval import read_python_docs
from cynosure.retrieval.asked_phrases import asked_mark, phrases_of, read_asked
from cynosure.retrieval.documents import Entry
from tests.retrieval.fakes import ENTRIES


def write(folder: Path, file: str, *rows: tuple[str, list[str]]) -> None:
    lines = [json.dumps({"name": name, "asked": asked}) for name, asked in rows]
    (folder / file).write_text("\n".join(lines))


def test_phrases_of_all_files_come_together_and_each_once(tmp_path: Path) -> None:
    write(tmp_path, "1.jsonl", ("a.b", ["one", "two", "one"]), ("c", ["three"]))
    write(tmp_path, "2.jsonl", ("a.b", ["two", "four"]))
    assert read_asked(tmp_path) == {"a.b": ("one", "two", "four"), "c": ("three",)}


def test_another_content_has_another_mark(tmp_path: Path) -> None:
    before = asked_mark(tmp_path)
    write(tmp_path, "1.jsonl", ("a.b", ["one"]))
    assert asked_mark(tmp_path) != before


def test_unknown_names_are_left_out_and_aliases_are_known() -> None:
    entries = (*ENTRIES, Entry("a.b", "function", "a", "", "Text.", aliases=("b.c",)))
    found = phrases_of(entries, {"heapq.merge": ["x"], "new.in_the_next_python": ["y"], "b.c": ["z"]})
    assert [(entries[phrase.entry].name, phrase.text) for phrase in found] == [
        ("heapq.merge", "x"),
        ("a.b", "z"),
    ]


@pytest.fixture(scope="module")
def asked() -> dict[str, tuple[str, ...]]:
    return read_asked()


def test_nearly_all_objects_are_of_this_python(asked: dict[str, tuple[str, ...]]) -> None:
    known = {name for entry in read_python_docs().entries for name in (entry.name, *entry.aliases)}
    assert len(asked) > 500
    assert len(asked.keys() - known) < len(asked) / 20


def test_phrases_are_short_texts(asked: dict[str, tuple[str, ...]]) -> None:
    phrases = [phrase for found in asked.values() for phrase in found]
    assert all(phrase == phrase.strip() and 2 <= len(phrase) < 250 for phrase in phrases)
    assert len(set(phrases)) > 0.98 * len(phrases)
