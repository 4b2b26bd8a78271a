"""Read the docstrings of this interpreter's standard library into JSON. Knows nothing of Cynosure.

Importing a whole standard library leaves traces: modules that patch others, open handles, warn or
print. So this file is run as a script in a child process (`python -I -S -B stdlib_reader.py`), with
standard output pointed at the null device until the one JSON document is written:

    {"entries": [{"name", "kind", "module", "signature", "doc", "aliases", "deprecated"}],
     "failed": {module: why}}

or `{"fault": traceback}` where the reading itself broke.

A public name is one in `__all__`, or, where a module has none, one without a leading underscore that
the module defines itself. An object reachable under several names keeps the shortest.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType

SKIPPED_PACKAGES = frozenset(
    {
        "antigravity",
        "this",
        "idlelib",
        "test",
        "lib2to3",
        "turtledemo",
        "ensurepip",
        "pydoc_data",
        "distutils",
        "encodings",
        "genericpath",
        "site",
        "sitecustomize",
        "usercustomize",
        "nt",
        "posix",
        "posixpath",
        "ntpath",
        "nturl2path",
        "sre_compile",
        "sre_constants",
        "sre_parse",
    }
)
SKIPPED_PARTS = frozenset({"tests", "test", "testmock"})
GENERATED_DOC = re.compile(r"Alias for field number \d+$")
CALL_LINE = re.compile(r"\s*([\w.]+)\((.*?)\)(\s*->\s*[^\n]*)?")
DEPRECATED = re.compile(r"(?:the )?'?([\w.]+)'?(?: module)? is deprecated", re.IGNORECASE)
MAX_SIGNATURE = 160
MAX_FAILURE = 200

Entry = dict[str, object]


def module_names() -> Iterator[str]:
    """Yield the public module names of the standard library, packages before what they contain."""
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in SKIPPED_PACKAGES:
            yield name
            yield from _submodules(name)
    yield "os.path"


def _submodules(package: str) -> Iterator[str]:
    try:
        paths = importlib.import_module(package).__path__
    except (Exception, SystemExit):
        # No package, or one that does not import: read_module reports the latter.
        return
    for found in pkgutil.iter_modules(paths):
        if found.name.startswith("_") or found.name in SKIPPED_PARTS:
            continue
        name = f"{package}.{found.name}"
        yield name
        if found.ispkg:
            yield from _submodules(name)


def public_members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the (name, object) pairs that a module offers to its users."""
    listed = module.__dict__.get("__all__")
    for name in sorted(n for n in (vars(module) if listed is None else listed) if not n.startswith("_")):
        try:
            member = getattr(module, name)
        except AttributeError:
            continue
        if listed is not None or _belongs(member, module.__name__):
            yield name, member


def _belongs(member: object, module_name: str) -> bool:
    """Whether a function or class was defined in the module, or in a private one on its behalf."""
    if not (inspect.isroutine(member) or inspect.isclass(member)):
        return False
    home = member.__module__ or ""
    return home == module_name or home.startswith("_")


def doc_of(member: object) -> str:
    """The object's own docstring, verbatim; empty where there is none or it was generated."""
    doc = member.__doc__
    if not isinstance(doc, str) or not doc.strip() or GENERATED_DOC.match(doc.strip()):
        return ""
    if inspect.isclass(member) and "__dataclass_fields__" in vars(member):
        return "" if doc.startswith(f"{member.__name__}(") else doc
    return doc


def signature_of(member: object, doc: str) -> str:
    """The parameter list in parentheses, from introspection or from a docstring's first line."""
    if not callable(member):
        return ""
    try:
        # Addresses in the reprs of default values would change from run to run.
        text = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(member)))
    except Exception:
        # Besides ValueError and TypeError, `inspect` lets through what evaluating a C default raises.
        call = CALL_LINE.match(doc)
        text = f"({call[2]}){call[3] or ''}".strip() if call else ""
    return text if len(text) <= MAX_SIGNATURE else text[: MAX_SIGNATURE - 4] + " ..."


def class_members(owner: type, public_ids: frozenset[int]) -> Iterator[tuple[str, str, object]]:
    """Yield (name, kind, object) for the documented methods and properties that a class gives its users.

    A private base has no page of its own, so what it defines is listed under the class. What a further
    base says in the same words is left to that base.
    """
    seen: set[str] = set()
    for depth, base in enumerate(owner.__mro__):
        if base is not owner and (base is object or id(base) in public_ids or base.__module__ == "builtins"):
            continue
        for name, raw in sorted(vars(base).items()):
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            member = raw.__func__ if isinstance(raw, (classmethod, staticmethod)) else raw
            doc = doc_of(member)
            further = owner.__mro__[depth + 1 :]
            if not doc or any(name in vars(other) and vars(other)[name].__doc__ == doc for other in further):
                continue
            if inspect.isroutine(member):
                yield name, "method", member
            elif isinstance(member, property) or inspect.isdatadescriptor(member):
                yield name, "property", member


def read_library() -> dict[str, object]:
    """Import what can be imported and list every public object that has a docstring."""
    modules, failed, deprecated = import_library()
    public = [(name, list(public_members(module))) for name, module in modules.items()]
    public_ids = frozenset(id(m) for _, found in public for _, m in found if inspect.isclass(m))
    book: dict[object, Entry] = {}
    classes: dict[int, tuple[str, str, type]] = {}
    for name, module in modules.items():
        _record(book, id(module), _entry(name, "module", name, module))
    # Functions before methods: random.shuffle is a bound method of a hidden random.Random.
    for home, found in public:
        for short, member in sorted(found, key=_is_renamed):
            name = public_name(modules, home, short, member)
            if inspect.isclass(member):
                classes.setdefault(id(member), (name, home, member))
                _record(book, id(member), _entry(name, "class", home, member), f"{home}.{short}")
            elif inspect.isroutine(member):
                key = (_top(home), short, doc_of(member)) if inspect.ismethod(member) else id(member)
                _record(book, key, _entry(name, "function", home, member), f"{home}.{short}")
    # Shortest first: bytes before bytearray, set before frozenset.
    for name, home, owner in sorted(classes.values(), key=lambda found: (found[0].count("."), len(found[0]))):
        for short, kind, member in class_members(owner, public_ids):
            # bytes.find and bytearray.find, set.union and frozenset.union: one text, one entry.
            key = (_top(home), short, doc_of(member))
            _record(book, key, _entry(f"{name}.{short}", kind, home, member))
    entries = [
        entry | {"deprecated": entry["module"] in deprecated} for entry in book.values() if entry["doc"]
    ]
    return {"entries": entries, "failed": failed}


def import_library() -> tuple[dict[str, ModuleType], dict[str, str], frozenset[str]]:
    """Import every public module; the shallowest names come first, and what fails is said.

    Returns the modules, why the others failed, and the names that warn of their own removal (PEP 594).
    """
    modules: dict[str, ModuleType] = {}
    failed: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for name in module_names():
            try:
                modules[name] = os.path if name == "os.path" else importlib.import_module(name)
            except (Exception, SystemExit) as fault:
                failed[name] = f"{type(fault).__name__}: {fault}"[:MAX_FAILURE]
    leaving = (DEPRECATED.match(str(w.message)) for w in said if issubclass(w.category, DeprecationWarning))
    # The first name that an object is met under becomes its canonical one.
    order = sorted(modules, key=lambda name: (name != "builtins", name.count("."), name))
    return {name: modules[name] for name in order}, failed, frozenset(m[1] for m in leaving if m)


def public_name(modules: dict[str, ModuleType], home: str, short: str, member: object) -> str:
    """The shortest dotted name: `asyncio.TaskGroup` for what `asyncio.taskgroups` defines."""
    while "." in home:
        parent = home.rpartition(".")[0]
        if parent not in modules or vars(modules[parent]).get(short) is not member:
            break
        home = parent
    return short if home == "builtins" else f"{home}.{short}"


def _is_renamed(pair: tuple[str, object]) -> bool:
    """Whether an object says that it has another name, as IOError says that it is OSError."""
    name, member = pair
    return (inspect.isroutine(member) or inspect.isclass(member)) and member.__name__ != name


def _top(module: str) -> str:
    return module.partition(".")[0]


def _entry(name: str, kind: str, module: str, member: object) -> Entry:
    doc = doc_of(member)
    signature = "" if kind in {"module", "property"} else signature_of(member, doc)
    return {"name": name, "kind": kind, "module": module, "signature": signature, "doc": doc, "aliases": []}


def _record(book: dict[object, Entry], key: object, entry: Entry, longer: str = "") -> None:
    """Keep the first name of an object; later names, and longer ones, become its aliases."""
    first = book.setdefault(key, entry)
    aliases = first["aliases"]
    assert isinstance(aliases, list)
    for name in (str(entry["name"]), longer):
        if name and name != first["name"] and name not in aliases and not name.startswith("builtins."):
            aliases.append(name)


def main() -> None:
    """Write the library as JSON to the standard output that this process was started with."""
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        library = read_library()
    except Exception:
        library = {"fault": traceback.format_exc()}
    with os.fdopen(answer, "w", encoding="utf-8", errors="surrogatepass") as out:
        json.dump(library, out)


if __name__ == "__main__":
    main()
