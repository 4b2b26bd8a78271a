"""Gather the text of the Python that runs: its library's source and its documentation. Knows no model.

Whole files are held out, chosen by a hash of their names, so that nothing of them was seen in training and
another machine with the same Python holds out the same.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import EmptyInput

#: Written by machines, or about other programs: no text to learn from.
LEFT_OUT = frozenset(("test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "encodings"))
#: One file in so many is held out.
HELD_OUT_OF = 20


@dataclass(frozen=True)
class Corpus:
    """The texts to learn from, and those that are held out; in order of their files' names."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def library_folder() -> Path:
    """Return where the standard library of this interpreter lies; its documentation's topics are in it."""
    return Path(sysconfig.get_path("stdlib"))


def read_corpus(folder: Path, max_files: int | None = None) -> Corpus:
    """Read every Python file below `folder`, or the first `max_files` by the hash of their names.

    Raises:
        EmptyInput: there are too few files to learn from some and hold out others.
    """
    names = [path.relative_to(folder) for path in folder.rglob("*.py")]
    kept = [name for name in names if not LEFT_OUT.intersection(name.parts)]
    chosen = sorted(kept, key=_mark)[:max_files]
    texts = {name: _text(folder / name) for name in sorted(chosen, key=str)}
    held_out = {name for name in chosen if not _mark(name) % HELD_OUT_OF}
    corpus = Corpus(
        tuple(text for name, text in texts.items() if text and name not in held_out),
        tuple(text for name, text in texts.items() if text and name in held_out),
    )
    if not corpus.train or not corpus.held_out:
        raise EmptyInput(
            f"{folder} holds {len(corpus.train)} texts to learn from and {len(corpus.held_out)} to hold out; "
            "each needs one. Name a folder with more Python files."
        )
    return corpus


def _mark(name: Path) -> int:
    return int.from_bytes(hashlib.sha256(name.as_posix().encode()).digest()[:8], "big")


def _text(path: Path) -> str:
    """Return a file's text; nothing where it is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
