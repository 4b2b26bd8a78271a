"""Read `FILE:LINE[:COLUMN]`, and the file there. Knows nothing of models."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from cynosure.cli.editor.filling import Gap
from cynosure.cli.editor.source_lines import SourceLines
from cynosure.core.errors import InputError, InputTooLong, NotFound

MAX_FILE_BYTES = 8 << 20
_PLACE = re.compile(r"(\S+?):(\d+)(?::(\d+))?")


@dataclass(frozen=True)
class Place:
    """A file, a line and a column of it; both count from 1, columns in code points.

    Without a column it is the end of the line.
    """

    file: Path
    line: int
    column: int | None = None

    def gap(self) -> Gap:
        """The place in the file's text.

        Raises:
            NotFound: there is no such file.
            InputTooLong: it is too long.
            InputError: it is no text, or has no such place.
        """
        text = read_text(self.file)
        lines = SourceLines(text)
        if not 1 <= self.line <= len(lines):
            raise InputError(
                f"{self.file} has {len(lines)} lines and no line {self.line}. They count from 1."
            )
        length = len(lines.line(self.line - 1))
        column = length + 1 if self.column is None else self.column
        if not 1 <= column <= length + 1:
            raise InputError(
                f"line {self.line} of {self.file} has {length} characters; column {column} is none of 1 to "
                f"{length + 1}. Columns count characters from 1."
            )
        return Gap(text, lines.starts[self.line - 1] + column - 1)


def place_in(text: str) -> Place | None:
    """The place that a text names; None where it is something else."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    return Place(Path(match[1]), int(match[2]), int(match[3]) if match[3] else None)


def read_text(file: Path) -> str:
    """A file's text with its line breaks, in UTF-8 or what its first lines say, without a byte order mark.

    Raises:
        NotFound: there is no such file.
        InputTooLong: it is longer than `MAX_FILE_BYTES`.
        InputError: it can't be read, or is no text.
    """
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputTooLong(f"{file} has {size} bytes; the limit is {MAX_FILE_BYTES}. Name a shorter one.")
        content = file.read_bytes()
    except FileNotFoundError as fault:
        raise NotFound(
            f"there is no file {file}. Name one; a prompt that only looks like FILE:LINE goes to standard "
            "input, for -."
        ) from fault
    except OSError as fault:
        raise InputError(f"{file} can't be read: {fault.strerror}. Name a file.") from fault
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as fault:
        raise InputError(f"{file} is no text that can be read: {fault}. Save it as UTF-8.") from fault
    if "\0" in text:
        raise InputError(f"{file} holds zero bytes; it is no text. Name another.")
    return text
