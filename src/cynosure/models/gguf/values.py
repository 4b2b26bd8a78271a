"""Read typed values from the bytes of a GGUF header, within bounds. Knows nothing of what they mean."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from cynosure.core.errors import CheckpointCorrupt

GgufScalar: TypeAlias = bool | int | float | str
GgufValue: TypeAlias = GgufScalar | tuple[GgufScalar, ...]

#: A vocabulary of 256k tokens with as many merges has about 15 MB; a chat template at most 100 kB.
MAX_STRING_BYTES = 16 * 2**20
#: Key names are short; the format says at most 65535 bytes.
MAX_KEY_BYTES = 2**16 - 1

_STRING, _ARRAY, _BOOL = 8, 9, 7

#: Of each number's kind: how `struct` calls it.
_FORMATS: Mapping[int, str] = MappingProxyType(
    {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d"}
)


@dataclass
class Cursor:
    """A place in the bytes of a file; every read checks that so many are left.

    `end` bounds the header; `where` is how messages call the file.
    """

    data: memoryview
    where: str
    end: int
    position: int = 0

    def number(self, form: str) -> int | float:
        """Read one little-endian number; `form` is a letter of `struct`."""
        (value,) = self.numbers(form, 1)
        return value

    def count(self) -> int:
        """Read a length or an offset, of 8 bytes."""
        return int(self.number("Q"))

    def numbers(self, form: str, count: int) -> tuple[int | float, ...]:
        """Read `count` numbers of one kind."""
        start = self._advance(count * struct.calcsize(f"<{form}"), "numbers")
        return struct.unpack_from(f"<{count}{form}", self.data, start)

    def string(self, max_bytes: int = MAX_STRING_BYTES) -> str:
        """Read a string: its length, then UTF-8.

        Raises:
            CheckpointCorrupt: it is longer than what is left, or than `max_bytes`, or is no UTF-8.
        """
        length = self.count()
        if length > max_bytes:
            raise CheckpointCorrupt(
                f"{self.where} has a string of {length} bytes in its header at byte {self.position}; the "
                "limit "
                f"is {max_bytes}. Fetch the file again."
            )
        start = self._advance(length, "a string")
        try:
            return str(self.data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointCorrupt(
                f"{self.where} has a string in its header at byte {start} that is no UTF-8: {error.reason}. "
                "Fetch "
                "the file again."
            ) from error

    def value(self) -> GgufValue:
        """Read one value of metadata: its kind, then itself.

        Raises:
            CheckpointCorrupt: a kind that does not exist, or more elements than bytes are left.
        """
        kind = int(self.number("I"))
        if kind != _ARRAY:
            return self._scalar(kind)
        kind, count = int(self.number("I")), self.count()
        if kind == _STRING:
            # Each string takes 8 bytes at least, so that a count that lies ends here and not in memory.
            self._check(8 * count, f"an array of {count} strings")
            return tuple(self.string() for _ in range(count))
        form = self._form(kind)
        self._check(count * struct.calcsize(f"<{form}"), f"an array of {count} numbers")
        values = self.numbers(form, count)
        return tuple(self._truth(value) for value in values) if kind == _BOOL else values

    def _scalar(self, kind: int) -> GgufScalar:
        if kind == _STRING:
            return self.string()
        value = self.number(self._form(kind))
        return self._truth(value) if kind == _BOOL else value

    def _form(self, kind: int) -> str:
        """How `struct` calls a kind; arrays of arrays are in no file that we know, and are not read."""
        if kind not in _FORMATS:
            raise CheckpointCorrupt(
                f"{self.where} has a value of the kind {kind} in its header at byte {self.position}; there "
                "is no "
                "such kind, or it is nested. Fetch the file again."
            )
        return _FORMATS[kind]

    def _truth(self, value: int | float) -> bool:
        if value not in (0, 1):
            raise CheckpointCorrupt(
                f"{self.where} has a truth value of {value} in its header before byte {self.position}; 0 or "
                "1 is "
                "needed. Fetch the file again."
            )
        return value == 1

    def _advance(self, num_bytes: int, what: str) -> int:
        """Step over bytes that are there, and return where they start."""
        self._check(num_bytes, what)
        start = self.position
        self.position += num_bytes
        return start

    def _check(self, num_bytes: int, what: str) -> None:
        if num_bytes > self.end - self.position:
            raise CheckpointCorrupt(
                f"{self.where} is truncated, or its header lies: {what} at byte {self.position} would take "
                f"{num_bytes} bytes, and {self.end - self.position} are left. Fetch the file again."
            )
