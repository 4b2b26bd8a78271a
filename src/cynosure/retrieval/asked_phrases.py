"""Read how people ask for objects whose name they do not know. Knows nothing of vectors or scores.

The phrases were written for the package, by object. They lead a question to an object, and are never quoted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cynosure.retrieval.documents import Entry, Phrase

FOLDER = Path(__file__).with_name("asked")


def read_asked(folder: Path = FOLDER) -> dict[str, tuple[str, ...]]:
    """The phrases by the name of their object; each phrase once."""
    asked: dict[str, dict[str, None]] = {}
    for path in _files(folder):
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            asked.setdefault(row["name"], {}).update(dict.fromkeys(row["asked"]))
    return {name: tuple(phrases) for name, phrases in asked.items()}


def asked_mark(folder: Path = FOLDER) -> str:
    """Name the content of the phrases: another content has another name."""
    whole = hashlib.sha256()
    for path in _files(folder):
        whole.update(path.read_bytes())
    return f"asked {whole.hexdigest()}"


def phrases_of(entries: Sequence[Entry], asked: Mapping[str, Iterable[str]]) -> tuple[Phrase, ...]:
    """The phrases of the objects that these entries are of; other Pythons have other objects."""
    places: dict[str, int] = {}
    for place, entry in enumerate(entries):
        for name in (entry.name, *entry.aliases):
            places.setdefault(name, place)
    return tuple(
        Phrase(places[name], phrase) for name, found in asked.items() if name in places for phrase in found
    )


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))
