"""Put checked records into a folder, and read back only what is whole. Knows nothing of what is in them.

A record is a keyed checksum and its content; the checksum covers the name too. What was cut short, changed,
renamed or written by somebody else does not pass, and is removed. A record appears under its name whole or
not at all: it is written aside and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cynosure.core.errors import EnvironmentFault, InputError

CHECKSUM_BYTES = 32
_TAG_FILE, _LOCK_FILE, _DRAFT = "CACHEDIR.TAG", "lock", ".draft"
#: Backup programs know the first line (bford.info/cachedir).
_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Pages of keys and values that Cynosure keeps.\n"


class PageFolder:
    """Records by name, of several kinds, each kind in a folder of its own. One process has it at a time."""

    def __init__(self, folder: Path, secret: bytes, kinds: tuple[str, ...]) -> None:
        """Take the folder; what was left half written is removed.

        Raises:
            InputError: it holds other files.
            EnvironmentFault: it can't be made or written, or another process has it.
        """
        self._folder = folder
        self._secret = secret
        try:
            _claim(folder)
            self._lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for kind in kinds:
                (folder / kind).mkdir(mode=0o700, exist_ok=True)
                for draft in (folder / kind).glob(f"*{_DRAFT}"):
                    draft.unlink()
        except OSError as fault:
            raise EnvironmentFault(
                f"the cache folder {folder} can't be used ({fault.strerror}). Make it writable, or "
                "name another."
            ) from fault
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(self._lock)
            raise EnvironmentFault(
                f"the cache folder {folder} is in use by another process. Give each server one of its own."
            ) from fault

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    def names(self, kind: str) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every file that has the name of a record, be it whole or not."""
        with os.scandir(self._folder / kind) as files:
            for file in files:
                try:
                    name = bytes.fromhex(file.name)
                except ValueError:
                    continue
                if name.hex() == file.name and file.is_file(follow_symlinks=False):
                    yield name, file.stat(follow_symlinks=False)

    def write(self, kind: str, name: bytes, content: bytes) -> None:
        """Put a record, whole or not at all.

        Raises:
            OSError: the disk is full, or gone.
        """
        path = self._path(kind, name)
        draft = path.with_name(f"{secrets.token_hex(8)}{_DRAFT}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(self._checksum(kind, name, content))
                stream.write(content)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def read(self, kind: str, name: bytes) -> bytes | None:
        """Return a record; `None`, and its file is gone, where it is not what was written."""
        try:
            # Neither a link nor a pipe that somebody put there is followed or waited for.
            descriptor = os.open(self._path(kind, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                raw = stream.read()
        except OSError:
            raw = b""
        content = raw[CHECKSUM_BYTES:]
        if hmac.compare_digest(raw[:CHECKSUM_BYTES], self._checksum(kind, name, content)):
            return content
        self.remove(kind, name)
        return None

    def touch(self, kind: str, name: bytes, time_s: float) -> None:
        """Note when a record was last used, as its file's time."""
        try:
            os.utime(self._path(kind, name), (time_s, time_s))
        except OSError:
            return  # it is gone, or will be older than it was

    def remove(self, kind: str, name: bytes) -> None:
        """Have no such record."""
        try:
            self._path(kind, name).unlink(missing_ok=True)
        except OSError:
            return  # what can't be removed can't be read as ours either

    def _path(self, kind: str, name: bytes) -> Path:
        return self._folder / kind / name.hex()

    def _checksum(self, kind: str, name: bytes, content: bytes) -> bytes:
        sum_of = hashlib.blake2b(digest_size=CHECKSUM_BYTES, key=self._secret, person=kind.encode()[:16])
        sum_of.update(name)
        sum_of.update(content)
        return sum_of.digest()


def _claim(folder: Path) -> None:
    """Make the folder ours, unless it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tag = folder / _TAG_FILE
    if not tag.exists():
        others = sorted(path.name for path in folder.iterdir())
        if others:
            raise InputError(
                f"the cache folder {folder} holds other files ({others[0]!r}). Name an empty one, or "
                "a new one."
            )
        tag.write_text(_TAG)
    elif tag.read_text() != _TAG:
        raise InputError(f"the cache folder {folder} is another program's cache. Name an empty one.")
