"""Gather Python source that may be learned from, and hold whole modules out. Knows nothing of models.

Three parts: the standard library, its tests, and the installed packages under a permissive licence. Modules
that are held out leave with their tests, and so does every file that shares a run of code with them
(`code_corpus_overlap`). A few files are set aside to watch a training by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cynosure.core.errors import EmptyInput
from cynosure.train.code_corpus_overlap import Overlap
from cynosure.train.licences import Licensed

#: Top-level modules of the standard library that no training sees; evals/data/code_heldout_modules.txt.
HELD_OUT_MODULES = (
    "bisect", "calendar", "cmd", "colorsys", "configparser", "copy", "csv", "difflib", "filecmp", "fnmatch",
    "fractions", "glob", "graphlib", "heapq", "pprint", "quopri", "reprlib", "sched", "shlex", "statistics",
    "string", "textwrap", "tomllib", "zipapp",
)  # fmt: skip
#: Folders of code by others, under other licences, made by machines, or made to be wrong.
LEFT_OUT = frozenset(
    ("site-packages", "dist-packages", "_vendor", "vendor", "vendored", "_vendored", "externals", "extern",
     "__pycache__", "lib2to3", "pydoc_data", "encodings", "bad_coding", "data", "node_modules")
)  # fmt: skip
TEST_FOLDERS = frozenset(("test", "tests", "testing", "idle_test"))
#: Longer files, and files with longer lines, are tables more often than programs.
MAX_FILE_BYTES = 200_000
MAX_LINE_CHARS = 400
#: Files of a package are taken in an order by the hash of their names, up to so much.
MAX_PACKAGE_BYTES = 600_000
#: One file in so many watches the training.
WATCHED_OF = 150


@dataclass(frozen=True)
class SourceFile:
    """A file of the corpus; `part` is `library`, `tests`, or the name of a package."""

    part: str
    name: str
    text: str


@dataclass(frozen=True)
class CodeCorpus:
    """What a training learns, is watched by, and never sees."""

    train: tuple[SourceFile, ...]
    watched: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]
    num_dropped: int
    packages: tuple[Licensed, ...]

    @property
    def digest(self) -> str:
        """A hash of all that is learned, in order."""
        sha = hashlib.sha256()
        for file in self.train:
            for text in (file.part, file.name, file.text):
                sha.update(text.encode() + b"\0")
        return sha.hexdigest()

    def num_bytes(self, part: str | None = None) -> int:
        """How much text a part has to learn from, or all parts together."""
        return sum(len(file.text.encode()) for file in self.train if part in (None, file.part))


def read_code(
    library: Path,
    packages: Sequence[Licensed],
    held_out: Iterable[str] = HELD_OUT_MODULES,
    max_package_bytes: int = MAX_PACKAGE_BYTES,
) -> CodeCorpus:
    """Read the library in a folder and the packages, and part them.

    Raises:
        EmptyInput: a module that is to be held out is not there, or nothing is left to learn from.
    """
    names = frozenset(held_out)
    files = list(_library_files(library))
    hidden = [file for file in files if is_held_out(file.name, names)]
    missing = names - {Path(file.name).parts[0].removesuffix(".py") for file in hidden}
    if missing:
        raise EmptyInput(
            f"{library} holds no source of {', '.join(sorted(missing))}, which should be held out. Name the "
            "folder of a standard library, or hold out what it has."
        )
    own = [file for file in files if not is_held_out(file.name, names)]
    others = [file for package in packages for file in _package_files(package, max_package_bytes)]
    overlap = Overlap([file.text for file in hidden])
    known: set[str] = set()
    kept, num_dropped = [], 0
    for file in [*own, *others]:
        if file.text in known:
            continue
        known.add(file.text)
        if overlap.is_shared_by(file.text):
            num_dropped += 1
        else:
            kept.append(file)
    watched = [file for file in kept if not _mark(f"watch {file.name}") % WATCHED_OF]
    train = [file for file in kept if _mark(f"watch {file.name}") % WATCHED_OF]
    if not train:
        raise EmptyInput(f"{library} and {len(packages)} packages leave no file to learn from. Name others.")
    used = {file.part for file in train}
    listed = tuple(package for package in packages if package.name in used)
    return CodeCorpus(tuple(train), tuple(watched), tuple(hidden), num_dropped, listed)


def is_held_out(name: str, modules: Iterable[str]) -> bool:
    """Whether a file of the library is one of these modules, a part of it, or a test of it."""
    parts = Path(name).parts
    wanted = frozenset(modules)
    if parts[0].removesuffix(".py") in wanted:
        return True
    if parts[0] != "test" or len(parts) < 2:
        return False
    return parts[1].removesuffix(".py").removeprefix("test_") in wanted


def _library_files(library: Path) -> Iterator[SourceFile]:
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if LEFT_OUT.isdisjoint(name.parts) and (text := read_source(path)):
            part = "library" if TEST_FOLDERS.isdisjoint(name.parts) else "tests"
            yield SourceFile(part, name.as_posix(), text)


def _package_files(package: Licensed, max_bytes: int) -> Iterator[SourceFile]:
    """Files of one package as its own record lists them; its tests say little that is new."""
    left = max_bytes
    listed = [file for file in metadata.files(package.name) or () if file.suffix == ".py"]
    for file in sorted(listed, key=lambda one: _mark(one.as_posix())):
        if not LEFT_OUT.isdisjoint(file.parts) or not TEST_FOLDERS.isdisjoint(file.parts):
            continue
        text = read_source(Path(str(file.locate())))
        if not text or (left := left - len(text)) < 0:
            continue
        yield SourceFile(package.name, file.as_posix(), text)


def read_source(path: Path) -> str:
    """A file's text; empty where it is no UTF-8, too large, or looks made by a machine."""
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
    is_made = "\0" in text or any(len(line) > MAX_LINE_CHARS for line in text.splitlines())
    return "" if is_made or not text.strip() else text


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
