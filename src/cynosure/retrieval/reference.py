"""Find and read Python's reference documentation, where it is installed. Knows nothing of passages.

Debian's `python3.X-doc` and the archives of python.org carry the pages' sources beside the HTML, in
`_sources/library`. Of these, what describes an object becomes a further text of that object, and a module's
sections further texts of the module. The tutorial, the FAQ and the language reference are not read.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cynosure.core.errors import EnvironmentFault
from cynosure.retrieval.documents import REFERENCE, Entry
from cynosure.retrieval.reference_page import Described, Page, Section

MAX_PAGE = 4 << 20
#: Raise it whenever pages are read in another way.
READING = 1

_SOURCES = Path("_sources", "library")
_OPTIONS = Path("_static", "documentation_options.js")
_VERSION = re.compile(r"VERSION: *'(\d+\.\d+)")
_GAP = "\n\n"
#: What the reference calls by a variable's name, and the interpreter by its class's.
_CLASSES = {"asyncio.loop": "asyncio.BaseEventLoop", "hashlib.hash": "hashlib.HASH"}


def python_version() -> str:
    """Major and minor version of this interpreter."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def find_reference(environment: Mapping[str, str], root: Path = Path("/")) -> Path | None:
    """The folder of this Python's reference documentation, or `None`; another version's is passed over.

    Looked for in `$PYTHONDOCS`, which pydoc knows, and where distributions put it.
    """
    version = python_version()
    usual = root / "usr" / "share" / "doc"
    folders = [usual / f"python{version}" / "html", usual / "python3-docs" / "html"]
    named = environment.get("PYTHONDOCS", "")
    if named and "://" not in named:
        # pydoc has it name the folder of the library's pages.
        folders = [Path(named), Path(named).parent, *folders]
    return next((folder for folder in folders if _version_of(folder) == version), None)


def checked_reference(folder: Path) -> Path:
    """A folder that was named.

    Raises:
        EnvironmentFault: It holds no reference documentation, or another version's.
    """
    found = _version_of(folder)
    if found is None:
        raise EnvironmentFault(
            f"{folder} holds no reference documentation with its sources ({_SOURCES}/*.rst.txt, {_OPTIONS}). "
            "Name the folder `html` of Debian's python3-doc, or of an archive of docs.python.org."
        )
    if found != python_version():
        raise EnvironmentFault(
            f"{folder} documents Python {found}; this is Python {python_version()}. Name its own."
        )
    return folder


def reference_mark(folder: Path | None) -> str:
    """Name the content of a folder's pages; empty where there is none."""
    if folder is None:
        return ""
    whole = hashlib.sha256()
    for page in _pages(folder):
        content = page.read_bytes()
        whole.update(f"{page.name} {len(content)}\n".encode() + content)
    return f"reference {READING} {whole.hexdigest()}"


def read_reference(folder: Path, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The reference's texts of the objects in `entries`, and of objects without a docstring.

    Raises:
        EnvironmentFault: A page is no text, or too large to be one.
    """
    known = {name: entry for entry in entries for name in (*entry.aliases, entry.name)}
    described: dict[str, Described] = {}
    sections: dict[str, list[Section]] = {}
    for path in _pages(folder):
        page = Page(_read(path))
        for one in page.described:
            name = _canonical(one, known)
            before = described.get(name)
            if before is not None and one.text not in before.text:
                one = replace(before, text=before.text + _GAP + one.text)
            described[name] = replace(one, name=name)
        for section in page.sections:
            sections.setdefault(section.module, []).append(section)
    objects = (_entry(one, known.get(one.name)) for one in described.values() if _is_public(one.name))
    texts = (entry for module, found in sections.items() for entry in _module_entries(module, found))
    # Modules of other platforms, and what only Python's own tests import, are not of this interpreter.
    modules = {entry.module for entry in entries}
    return tuple(entry for entry in (*objects, *texts) if entry.module in modules)


def _entry(described: Described, known: Entry | None) -> Entry:
    """An object's text; kind and module are those of its docstring, where there is one."""
    kind = known.kind if known else described.kind
    module = known.module if known else described.module
    return Entry(described.name, kind, module, described.signature, described.text, source=REFERENCE)


def _module_entries(module: str, sections: Iterable[Section]) -> Iterable[Entry]:
    """A module's sections, each with where it begins in the module's whole text."""
    start = 0
    for section in sections:
        yield Entry(module, "module", module, "", section.text, start=start, source=REFERENCE)
        start += len(section.text) + len(_GAP)


def _canonical(described: Described, known: Mapping[str, Entry]) -> str:
    """The name under which the interpreter documents an object."""
    name = described.name
    owner, _, short = name.rpartition(".")
    # Some pages name the module again, within the module.
    whole = name.removeprefix(f"{described.module}.")
    for candidate in (name, whole, f"{_CLASSES.get(owner, owner)}.{short}"):
        if candidate in known:
            return known[candidate].name
    return name


def _is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def _pages(folder: Path) -> list[Path]:
    return sorted((folder / _SOURCES).glob("*.rst.txt"))


def _read(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_PAGE:
        raise EnvironmentFault(f"{path} has {size} bytes; the limit of a page is {MAX_PAGE}. Leave it out.")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as fault:
        raise EnvironmentFault(
            f"{path} is not UTF-8 at byte {fault.start}. Install the documentation again."
        ) from fault


def _version_of(folder: Path) -> str | None:
    """The version that a folder documents, or `None` where it has no sources."""
    try:
        match = _VERSION.search((folder / _OPTIONS).read_text("utf-8"))
        has_pages = any((folder / _SOURCES).glob("*.rst.txt"))
    except (OSError, UnicodeDecodeError):
        return None
    return match[1] if match and has_pages else None
