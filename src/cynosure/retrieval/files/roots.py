"""Find the files below the paths that a caller names, and read them. Knows nothing of what they hold.

The named paths are all that may be read: a link that leads out of them is refused, not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import InputError, InputTooLong, NotFound

MAX_FILE_BYTES = 16 << 20

#: Folders that hold what was made from other files; those with a dot before their name are hidden.
_MADE = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True)
class Root:
    """A path that was named, resolved: a folder, or one file."""

    path: Path

    def label(self, file: Path) -> str:
        """What a file is called: from the name of its root on."""
        return (Path(self.path.name) / file.relative_to(self.path)).as_posix()


@dataclass(frozen=True)
class Found:
    """A file below a root, or a link there."""

    path: Path
    root: Root


def root_of(path: Path) -> Root:
    """Resolve a path that was named.

    Raises:
        NotFound: nothing is there.
        InputError: it is neither a folder nor a file.
    """
    try:
        resolved = path.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as fault:
        raise NotFound(
            f"{path} can't be found ({fault}). Correct the path; `--forget` drops one that was indexed."
        ) from fault
    if not resolved.is_dir() and not resolved.is_file():
        raise InputError(f"{path} is neither a folder nor a file. Name one of these.")
    return Root(resolved)


def merged(known: Sequence[Root], named: Sequence[Root]) -> tuple[tuple[Root, ...], tuple[Root, ...]]:
    """All roots, none within another, and those of them that are to be read anew."""
    everything = {root.path for root in (*known, *named)}
    outer = tuple(Root(path) for path in sorted(everything) if not everything.intersection(path.parents))
    fresh = tuple(root for root in outer if any(one.path.is_relative_to(root.path) for one in named))
    return outer, fresh


def files_below(root: Root) -> Iterator[Found]:
    """Every file and link below a root in order of its path, hidden ones and caches left out."""
    if not root.path.is_dir():
        yield Found(root.path, root)
        return
    for folder, folders, names in os.walk(root.path, onerror=_unreadable):
        shown = sorted(name for name in folders if not name.startswith(".") and name not in _MADE)
        # A link to a folder is told like a file, so that one that leads out is refused by name.
        links = [name for name in shown if (Path(folder) / name).is_symlink()]
        folders[:] = [name for name in shown if name not in links]
        for name in sorted([*links, *(name for name in names if not name.startswith("."))]):
            yield Found(Path(folder) / name, root)


def leads_within(found: Found, roots: Sequence[Root]) -> bool:
    """Whether a link leads to what lies below a root, where it is read by its own name.

    Raises:
        InputError: it leads out of all of them, or nowhere.
    """
    try:
        target = found.path.resolve(strict=True)
    except (OSError, RuntimeError) as fault:
        raise InputError(f"{found.path} is a link that leads nowhere. Remove it.") from fault
    if any(target.is_relative_to(root.path) for root in roots):
        return True
    raise InputError(
        f"{found.path} is a link that leads out of the indexed paths, to {target}. "
        "Remove it, or name its target as well."
    )


def read_file(found: Found) -> bytes:
    """All of a regular file's bytes.

    Raises:
        InputTooLong: it has more than `MAX_FILE_BYTES`.
        InputError: it is no regular file, can't be read, or changed meanwhile.
    """
    path = found.path
    try:
        # The path may have become a link or a pipe since it was listed: follow none, wait for none.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as fault:
        raise InputError(f"{path} was deleted while it was indexed. Index again.") from fault
    except OSError as fault:
        raise InputError(
            f"{path} can't be read ({fault.strerror}). Change its rights, or leave it out."
        ) from fault
    with os.fdopen(file, "rb") as stream:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"{path} is no regular file. Leave it out.")
        if not path.resolve().is_relative_to(found.root.path):
            raise InputError(f"{path} leads out of {found.root.path}. Leave it out.")
        _check_size(path, before.st_size)
        content = stream.read(MAX_FILE_BYTES + 1)
        _check_size(path, len(content))
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(
        content
    ) != after.st_size:
        raise InputError(f"{path} changed while it was read. Index again.")
    return content


def _check_size(path: Path, num_bytes: int) -> None:
    if num_bytes > MAX_FILE_BYTES:
        raise InputTooLong(
            f"{path} has {num_bytes / 2**20:.1f} MiB; the limit is {MAX_FILE_BYTES >> 20} MiB. Split it."
        )


def _unreadable(fault: OSError) -> None:
    raise InputError(
        f"{fault.filename} can't be listed ({fault.strerror}). Change its rights, or name others."
    )
