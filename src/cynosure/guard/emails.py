"""Find e-mail addresses as people write them. Knows nothing of whether they can be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cynosure.guard.kinds import Kind, Span

# A narrower set than RFC 5322 allows: quoted local parts and rare marks are not claimed.
_LOCAL = r"[A-Za-z0-9\u00c0-\u024f_%+'-]"
_LABEL = r"[A-Za-z0-9\u00c0-\u024f](?:[A-Za-z0-9\u00c0-\u024f-]{0,61}[A-Za-z0-9\u00c0-\u024f])?"
_ADDRESS = re.compile(
    rf"(?<![A-Za-z0-9\u00c0-\u024f_%+.@-])(?<!//)({_LOCAL}{{1,64}}(?:\.{_LOCAL}{{1,64}}){{0,8}})"
    rf"@((?:{_LABEL}\.){{1,8}}(?:[A-Za-z\u00c0-\u024f]{{2,24}}|[Xx][Nn]--[A-Za-z0-9-]{{2,59}}))"
    r"(?![A-Za-z0-9\u00c0-\u024f_@-])"
)
_MAX_ADDRESS = 254
_PICTURE = re.compile(r"[0-9]x\.(?:png|jpe?g|gif|webp|avif|svg|bmp)", re.IGNORECASE)


def find_emails(text: str, begin: int) -> Iterator[Span]:
    """Yield the addresses of a run, from `begin` on; what stands before is context."""
    for found in _ADDRESS.finditer(text, begin):
        start = found.start() + (found[1].startswith("'"))
        if found.end() - start > _MAX_ADDRESS or _PICTURE.fullmatch(found[2]):
            continue
        # What `git clone` takes names a repository, and nobody's mailbox.
        if found[1] == "git" and text[found.end() : found.end() + 1] == ":":
            continue
        yield Span(Kind.EMAIL, start, found.end(), "address")
