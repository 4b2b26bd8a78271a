"""Find where a log that was left can be gone on with. Repairs nothing itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import AuditFault
from cynosure.guard.audit_chain import START, Head, Link, Sealer


@dataclass(frozen=True)
class Tail:
    """The end of a chain, the size of the file up to there, and how much behind it a crash tore."""

    link: Link
    size: int
    torn: int = 0
    torn_sha256: str = ""


def find_tail(path: Path, head_path: Path, sealer: Sealer) -> Tail:
    """Read what stands behind the head, and say where to go on.

    Raises:
        AuditFault: The log was cut or edited, its head is gone, or it belongs to another key.
    """
    size = path.stat().st_size
    if not head_path.exists():
        if size:
            raise _damaged(path, f"its head {head_path} is missing")
        return Tail(START, 0)
    head = _head(path, head_path, sealer)
    if size == 0:
        return Tail(head.link, 0)  # rotated, by us or by another
    if size < head.offset:
        raise _damaged(path, f"it holds {size} bytes where its head saw {head.offset}")
    with path.open("rb") as file:
        file.seek(head.offset)
        rest = file.read()
    return _follow(path, rest, head, sealer)


def _head(path: Path, head_path: Path, sealer: Sealer) -> Head:
    written = head_path.read_bytes()
    head = sealer.read_head(written)
    if head is None:
        why = "was written with another key" if sealer.is_other_key(written) else "was edited"
        raise _damaged(path, f"its head {head_path} {why}")
    return head


def _follow(path: Path, rest: bytes, head: Head, sealer: Sealer) -> Tail:
    """Follow the chain over what was written after the head; the first thing that is no record was torn."""
    link, at = head.link, 0
    while at < len(rest):
        end = rest.find(b"\n", at)
        line = sealer.read(rest[at:end]) if end >= 0 else None
        if line is None:
            torn = rest[at:]
            return Tail(link, head.offset + at, len(torn), hashlib.sha256(torn).hexdigest())
        if not line.is_genuine or (line.seq, line.prev) != (link.seq + 1, link.mac):
            raise _damaged(path, f"record {link.seq + 1} was edited or moved")
        link, at = Link(line.seq, line.mac), end + 1
    return Tail(link, head.offset + at)


def _damaged(path: Path, why: str) -> AuditFault:
    return AuditFault(
        f"audit log {path} cannot be gone on with: {why}. Run `cynosure audit verify`, keep its files as "
        f"evidence, and name another log."
    )
