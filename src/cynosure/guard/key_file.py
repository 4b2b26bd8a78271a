"""Take a key from the environment or from a file that its owner alone can read. Never shows it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CynosureError, NotFound

KEY_BYTES = 32


@dataclass(frozen=True)
class KeyKind:
    """What a key is for.

    - `name`: in words; `variable`: of the environment, which comes before a file.
    - `fault`: what is raised where it can't be used; `if_read`: what to do once others may have read it.
    """

    name: str
    variable: str
    fault: type[CynosureError]
    if_read: str

    def read(self, environ: Mapping[str, str], path: Path) -> bytes:
        """Read the key from the environment, else from the file.

        Raises:
            NotFound: There is neither.
            CynosureError: A `fault`: it is no key, or others may read the file.
        """
        if environ.get(self.variable):
            return self._parsed(environ[self.variable], f"${self.variable}")
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as fault:
            raise NotFound(
                f"no {self.name}: {path} does not exist and ${self.variable} is not set. Name the file, or "
                "set it."
            ) from fault
        except OSError as fault:
            raise self.fault(
                f"{self.name} {path} cannot be opened: {fault.strerror}. Make it a plain file."
            ) from fault
        with open(opened, encoding="ascii", errors="replace") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise self.fault(
                    f"{self.name} {path} has mode {mode:o}; others may read it. Run `chmod 600` on it, and "
                    f"if they did, {self.if_read}."
                )
            return self._parsed(file.read(4096), str(path))

    def read_or_create(self, environ: Mapping[str, str], path: Path) -> bytes:
        """Read the key; where there is none, make one that only its owner can read.

        Raises:
            CynosureError: A `fault`: it is no key, others may read it, or it cannot be written.
        """
        try:
            return self.read(environ, path)
        except NotFound:
            pass
        scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(made, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(KEY_BYTES) + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link appears whole or not at all, and never over a key that somebody else just made.
            os.link(scratch, path)
        except FileExistsError:
            pass
        except OSError as fault:
            raise self.fault(
                f"{self.name} {path} cannot be written: {fault.strerror}. Name another place."
            ) from fault
        finally:
            scratch.unlink(missing_ok=True)
        return self.read(environ, path)

    def _parsed(self, text: str, where: str) -> bytes:
        try:
            key = bytes.fromhex(text.strip())
        except ValueError:
            key = b""
        if len(key) < KEY_BYTES:
            raise self.fault(
                f"{self.name} in {where} is not usable; it takes {KEY_BYTES} bytes or more as hexadecimal "
                f"digits. Make one with `openssl rand -hex {KEY_BYTES}`."
            )
        return key
