"""Mark the sections of a Markdown text by its headings. Knows nothing of files."""

from __future__ import annotations

import re

from cynosure.retrieval.files.marks import Mark, line_starts, path_of

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")


def markdown_marks(text: str) -> tuple[Mark, ...]:
    """A mark at each heading, called by the headings above it; what stands in fenced code is none."""
    marks = [Mark(0, "", "section")]
    above: list[tuple[int, str]] = []
    fence = ""
    starts = line_starts(text)
    lines = [
        text[start:stop].rstrip("\r\n") for start, stop in zip(starts, [*starts[1:], len(text)], strict=True)
    ]
    first = _after_front_matter(lines)
    for number in range(first, len(lines)):
        line = lines[number]
        fenced = _FENCE.match(line)
        if fence:
            closes = fenced and fenced[1].startswith(fence) and not fenced[2].strip()
            fence = "" if closes else fence
            continue
        if fenced and not (fenced[1][0] == "`" and "`" in fenced[2]):
            fence = fenced[1]
            continue
        heading = _heading(lines, number, first)
        if heading is not None:
            level, title = heading
            above = [one for one in above if one[0] < level] + [(level, title)]
            marks.append(Mark(starts[number], path_of([name for _, name in above]), "section"))
    return tuple(marks)


def _heading(lines: list[str], number: int, first: int) -> tuple[int, str] | None:
    line = lines[number]
    if match := _ATX.match(line):
        return len(match[1]), match[2] or ""
    below = lines[number + 1] if number + 1 < len(lines) else ""
    alone = number == first or not lines[number - 1].strip()
    underline = _SETEXT.match(below)
    # A line before `---` is a heading only as a paragraph of its own: not in a list, quote or table.
    if underline and alone and line.strip() and not re.match(r" {4}|\t| {0,3}[-*+>|]", line):
        return 1 if underline[1][0] == "=" else 2, line.strip()
    return None


def _after_front_matter(lines: list[str]) -> int:
    if lines[0].rstrip() != "---":
        return 0
    return next((number + 1 for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), 0)
