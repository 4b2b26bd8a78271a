"""Tell whose key came with a request. Knows nothing of what a key may do here.

One key a line: `name:key` or `name:sha256:HEX`, then what it may, as `rpm=60 tpm=10000 concurrency=4 admin`.
Only digests are kept, and no message or log holds a key.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers

from cynosure.core.errors import InputError, InvalidApiKey
from cynosure.server.access.limits import Clock, Limits

MIN_KEY_CHARACTERS = 16
#: How long a change of the file may go unseen.
CHECK_EVERY_S = 1.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(rf"[!-~]{{{MIN_KEY_CHARACTERS},512}}")
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
_LIMIT = re.compile(r"(rpm|tpm|concurrency)=([1-9][0-9]{0,9})")
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)

_MODE_OF_OTHERS = 0o077

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiKey:
    """A key that may call, by its digest."""

    name: str
    digest: bytes = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    is_admin: bool = False


def digest_of(key: str) -> bytes:
    """What is kept of a key. Keys are random and long, so that a plain hash can't be guessed back."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def parse_keys(text: str, source: str) -> tuple[ApiKey, ...]:
    """Read keys, one a line; empty lines and those that begin with `#` are skipped.

    Raises:
        InputError: a line that is no key, or two keys of one name or one value. The message holds the line's
            number and nothing of what it says.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys.append(_parse_key(line.split(), f"line {number} of {source}"))
    check_distinct(keys, source)
    return tuple(keys)


def check_distinct(keys: Sequence[ApiKey], source: str) -> None:
    """Raise `InputError` where two keys have one name or one value."""
    for what, values in (("name", [key.name for key in keys]), ("value", [key.digest for key in keys])):
        if len(set(values)) < len(values):
            raise InputError(f"two keys of {source} have one {what}; the limit is one each. Change one.")


def presented_key(headers: Headers) -> str:
    """The key that a request came with, as a bearer token (OpenAI) or in `x-api-key` (Anthropic).

    Raises:
        InvalidApiKey: there is none, or there are several.
    """
    found = {value.strip() for value in headers.getlist("x-api-key")}
    for value in headers.getlist("authorization"):
        bearer = _BEARER.fullmatch(value)
        found.add(bearer[1] if bearer else "")
    found.discard("")
    if len(found) != 1:
        raise InvalidApiKey(
            f"the request came with {len(found) or 'no'} API keys; exactly one is needed. Send it as "
            "`Authorization: Bearer KEY` or as `x-api-key: KEY`."
        )
    return found.pop()


class KeyRing:
    """The keys that are valid now: those given at the start, and those of a file, read again as it changes.

    With neither, the ring is open: nobody is asked for a key.
    """

    def __init__(
        self, keys: Sequence[ApiKey] = (), file: Path | None = None, clock: Clock = time.monotonic
    ) -> None:
        """Read the file.

        Raises:
            InputError: the file can't be read, holds no key, or a line that is none.
        """
        self._given = tuple(keys)
        self._file = file
        self._clock = clock
        self._keys = self._given
        self._next_check_s = clock() + CHECK_EVERY_S
        self._stamp: tuple[int, int, int] | None = None
        if file is not None:
            self._stamp = _stamp(file)
            self._keys = self._read(file)

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a key."""
        return self._file is None and not self._given

    def find(self, presented: str) -> ApiKey:
        """The key with this value. All are compared, each in constant time, whichever it is.

        Raises:
            InvalidApiKey: it is none of ours.
        """
        self._refresh()
        digest, found = digest_of(presented), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise InvalidApiKey("the API key is not one of this server's. Correct it, or ask its operator.")
        return found

    def look_again(self) -> None:
        """Read the file at the next request, whether or not it seems to have changed."""
        self._next_check_s = 0.0
        self._stamp = None

    def _refresh(self) -> None:
        """Read the file where it changed; one that can't be read changes nothing, and is reported."""
        now = self._clock()
        if self._file is None or now < self._next_check_s:
            return
        self._next_check_s = now + CHECK_EVERY_S
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = self._read(self._file)
        except InputError as fault:
            _log.error("the keys in force stay: %s", fault)
        else:
            _log.warning("%d keys are in force now", len(self._keys))

    def _read(self, file: Path) -> tuple[ApiKey, ...]:
        try:
            text = file.read_text(encoding="utf-8")
            mode = file.stat().st_mode
        except (OSError, UnicodeDecodeError) as fault:
            why = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
            raise InputError(f"the keys file {file} can't be read ({why}). Correct it.") from None
        if mode & _MODE_OF_OTHERS:
            _log.warning("others may read the keys file %s. Close it: chmod 600.", file)
        keys = parse_keys(text, str(file))
        if not keys:
            raise InputError(f"the keys file {file} holds no key; at least one is needed. Add name:key.")
        check_distinct([*self._given, *keys], f"{file} and the environment")
        return (*self._given, *keys)


def _parse_key(words: Sequence[str], place: str) -> ApiKey:
    name, colon, value = words[0].partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise InputError(
            f"{place} does not begin with a name and a colon; names have up to 64 letters, digits, '.', '_' "
            "or '-'. Write name:key."
        )
    hashed = _HASHED.fullmatch(value)
    if not hashed and (not _KEY.fullmatch(value) or value.startswith("sha256:")):
        raise InputError(
            f"{place} holds no usable key: one has {MIN_KEY_CHARACTERS} to 512 visible ASCII characters, or "
            "is sha256: and 64 hexadecimal digits. Make one with `openssl rand -hex 24`."
        )
    limits: dict[str, int] = {}
    is_admin = False
    for word in words[1:]:
        limit = _LIMIT.fullmatch(word)
        if word == "admin":
            is_admin = True
        elif limit and limit[1] not in limits:
            limits[limit[1]] = int(limit[2])
        else:
            raise InputError(
                f"{place} says something after the key that is not known; known are rpm=N, tpm=N, "
                "concurrency=N, each once with N from 1, and admin. Correct it."
            )
    digest = bytes.fromhex(hashed[1]) if hashed else digest_of(value)
    return ApiKey(name, digest, Limits(**limits), is_admin)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; `None` where it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
