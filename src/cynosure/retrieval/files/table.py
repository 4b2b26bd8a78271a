"""Mark blocks of whole rows in comma-separated values. Knows nothing of files."""

from __future__ import annotations

import csv
import io

from cynosure.retrieval.files.marks import Extract, Mark, line_starts

#: Characters of a block: few rows, so that a passage is about few things.
BLOCK = 800

_MAX_COLUMNS = 300


def read_table(text: str, delimiter: str) -> Extract:
    """A mark at each block of rows; the first row's fields are the columns, unless they are very long."""
    # newline="" leaves line ends to the reader, as csv asks: quoted fields may hold them.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    starts = [*line_starts(text), len(text)]
    edges: list[tuple[int, int]] = [(0, 1)]
    columns = ""
    try:
        for number, row in enumerate(rows, 1):
            if number == 1 and len(", ".join(row)) <= _MAX_COLUMNS:
                columns = f"({', '.join(' '.join(field.split()) for field in row)})"
            end = starts[min(rows.line_num, len(starts) - 1)]
            if end - edges[-1][0] >= BLOCK:
                edges.append((end, number + 1))
    except csv.Error:
        # A field over the reader's limit: the text is still indexed, cut by length.
        return Extract(text, (Mark(0, "", "rows"),))
    marks = tuple(Mark(start, f"from row {row}" if row > 1 else "", "rows") for start, row in edges)
    return Extract(text, marks, columns)
