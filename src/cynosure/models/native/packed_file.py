"""Keep packed weights in a file between runs. Knows nothing of layers or checkpoints.

    length and CRC-32 of the header; the header, JSON: key, sizes of pieces, CRC-32 of slices; the pieces

A file is disposable: whole or not there, and thrown away where it is damaged or of another key. It is read
into memory of its own rather than mapped: a map lies on small pages, and streaming through those is slower.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TypedDict

from cynosure.core.errors import EnvironmentFault
from cynosure.kernels.memory import Arena

SUFFIX = ".packed"
SPARE_BYTES = 1 << 30
"""Of a disk, so much is left to others."""

MAX_HEADER = 16 << 20
_NUMBER = 8  # bytes of each number before the header
_SLICE = 16 << 20
"""Bytes that a thread reads and checks at a time: an embedding is a third of a small model."""

_log = logging.getLogger(__name__)


class _Header(TypedDict):
    key: str
    sizes: list[int]
    checksums: list[int]


@dataclass(frozen=True)
class PackedFile:
    """The packed weights of one model; `key` says what shaped them.

    A model has one file: where its checkpoint or the kernels have changed, what is old is replaced.
    """

    path: Path
    key: str

    def read(self) -> Arena | None:
        """Return an arena that holds the weights; `None` where there are none that can be used."""
        try:
            with self.path.open("rb") as file:
                header, start = _read_header(file.fileno())
                if header["key"] != self.key:
                    raise ValueError("it is of another checkpoint, or of other kernels")
                arena = Arena.reserved(header["sizes"])
                _read_pieces(file.fileno(), start, arena, header)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EnvironmentFault) as fault:
            _log.warning("%s can't be used and is removed: %s", self.path, fault)
            self.discard()
            return None
        return arena

    def write(self, arena: Arena) -> bool:
        """Write what an arena holds, whole or not at all; return whether it was."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.path.parent).free < arena.num_bytes + SPARE_BYTES:
                _log.warning("packed weights are not kept: %s is nearly full", self.path.parent)
                return False
            self._write(arena)
        except OSError as fault:
            _log.warning("packed weights can't be kept in %s: %s", self.path.parent, fault)
            return False
        return True

    def discard(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _write(self, arena: Arena) -> None:
        pieces = list(arena.pieces)
        with ThreadPoolExecutor(_num_threads()) as threads:
            slices = (piece[begin:end] for piece in pieces for begin, end in _slices([len(piece)]))
            checksums = list(threads.map(zlib.crc32, slices))
        header: _Header = {"key": self.key, "sizes": [*arena.sizes], "checksums": checksums}
        text = json.dumps(header).encode()
        with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                for number in (len(text), zlib.crc32(text)):
                    file.write(number.to_bytes(_NUMBER, "little"))
                file.write(text)
                for piece in pieces:
                    file.write(piece)
                file.flush()
                part.replace(self.path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def _read_header(file: int) -> tuple[_Header, int]:
    """Return the header, and where the pieces begin.

    Raises:
        ValueError: it is damaged.
    """
    numbers = os.pread(file, 2 * _NUMBER, 0)
    length, checksum = (
        int.from_bytes(numbers[:_NUMBER], "little"),
        int.from_bytes(numbers[_NUMBER:], "little"),
    )
    if len(numbers) < 2 * _NUMBER or length > MAX_HEADER:
        raise ValueError("its header is damaged")
    text = os.pread(file, length, 2 * _NUMBER)
    if len(text) != length or zlib.crc32(text) != checksum:
        raise ValueError("its header is damaged")
    return json.loads(text), 2 * _NUMBER + length


def _read_pieces(file: int, start: int, arena: Arena, header: _Header) -> None:
    """Fill an arena, several slices at a time.

    Raises:
        ValueError: a slice is damaged, or not there.
    """
    memory, slices = arena.reserve, _slices(header["sizes"])

    def read(place: tuple[int, int], checksum: int) -> bool:
        begin, end = place
        done = begin
        while done < end:
            got = os.preadv(file, [memory[done:end]], start + done)
            if not got:
                return False
            done += got
        return zlib.crc32(memory[begin:end]) == checksum

    with ThreadPoolExecutor(_num_threads()) as threads:
        if not all(threads.map(read, slices, _checked(header["checksums"], len(slices)))):
            raise ValueError("its weights are damaged")


def _slices(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return where slices of pieces in a row begin and end; none is of two pieces."""
    return [
        (begin, min(begin + _SLICE, end))
        for size, end in zip(sizes, accumulate(sizes), strict=True)
        for begin in range(end - size, end, _SLICE)
    ]


def _checked(checksums: Sequence[int], count: int) -> Sequence[int]:
    if len(checksums) != count:
        raise ValueError("its header lies")
    return checksums


def _num_threads() -> int:
    return len(os.sched_getaffinity(0))
