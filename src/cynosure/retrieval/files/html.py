"""Take the text out of HTML and mark it by its headings. Knows nothing of files, and runs no script."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from cynosure.retrieval.files.marks import Extract, Mark, path_of

_WORD = re.compile(r"\w+")
_BLOCKS = frozenset(
    _WORD.findall("""
    address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption figure
    footer form h1 h2 h3 h4 h5 h6 head header hr html li main nav ol p pre section summary table tbody
    tfoot thead tr ul
    """)
)
_UNSEEN = frozenset({"script", "style", "template", "title"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_SPACES = re.compile(r"[ \t\r\n\f]+")


def read_html(source: str) -> Extract:
    """The text that a reader sees, blocks apart by a blank line, and a mark at each heading."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    reader.end_block()
    return Extract("".join(reader.parts), tuple(reader.marks))


class _Reader(HTMLParser):
    """Collects text by block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.marks = [Mark(0, "", "section")]
        self._length = 0
        self._block: list[str] = []
        self._above: list[tuple[int, str]] = []
        self._heading = ""
        self._unseen = ""
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            return
        if tag in _UNSEEN:
            self._unseen = tag
        elif tag == "br":
            self._block.append("\n")
        elif tag in {"td", "th"}:
            self._block.append(" ")
        elif tag in _BLOCKS:
            self.end_block()
            self._heading = tag if tag in _HEADINGS else ""
            self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            self._unseen = "" if tag == self._unseen else self._unseen
        elif tag in _BLOCKS:
            self.end_block()
            self._heading = ""
            self._pre = max(0, self._pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._block.append(data if self._pre else _SPACES.sub(" ", data))

    def end_block(self) -> None:
        """Write the block, if it says anything."""
        block = "".join(self._block)
        self._block = []
        block = block.strip("\r\n") if self._pre else re.sub(r" *\n *| {2,}", _edge, block).strip()
        if not block.strip():
            return
        if self._heading:
            level = int(self._heading[1])
            self._above = [one for one in self._above if one[0] < level] + [(level, block)]
            self.marks.append(Mark(self._length, path_of([name for _, name in self._above]), "section"))
        self.parts.append(f"{block}\n\n")
        self._length += len(block) + 2


def _edge(match: re.Match[str]) -> str:
    return "\n" if "\n" in match[0] else " "
