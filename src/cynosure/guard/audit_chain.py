"""Seal audit records into a keyed chain, and open them again. Knows nothing of files.

A line is a JSON object: `seq` counts from 1, `time`, `prev` is the code of the record before, `record` what
happened, and `mac` = HMAC-SHA256 (RFC 2104) over the line's own bytes before it. Nobody without the key can
write, edit or renumber a line; the signed head says how far the chain reached, so that a cut tail shows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

GENESIS = "0" * 64
_LINE = re.compile(
    rb'(\{"seq":([0-9]{1,18}),"time":"[^"]{1,40}","prev":"([0-9a-f]{64})","record":.*),"mac":"([0-9a-f]{64})"\}'
)


class Link(NamedTuple):
    """The end of a chain: the number and the code of its last record."""

    seq: int
    mac: str


class Line(NamedTuple):
    """What a line says of itself; only `is_genuine` makes it true."""

    seq: int
    prev: str
    mac: str
    is_genuine: bool


START = Link(0, GENESIS)


@dataclass(frozen=True)
class Head:
    """How far the chain reached, and where in the current file that was."""

    link: Link
    offset: int


class Sealer:
    """Makes and checks codes with one key."""

    def __init__(self, key: bytes) -> None:
        # One key a purpose, so that no head can pass for a record.
        self._record_key = hmac.digest(key, b"cynosure audit record 1", "sha256")
        self._head_key = hmac.digest(key, b"cynosure audit head 1", "sha256")
        self.key_id = hmac.digest(key, b"cynosure audit key id 1", "sha256").hex()[:16]

    def seal(self, last: Link, record: str) -> tuple[bytes, Link]:
        """Return the line of a record (a JSON text) that follows `last`, and the new end of the chain."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        seq = last.seq + 1
        body = f'{{"seq":{seq},"time":"{time}","prev":"{last.mac}","record":{record}'.encode()
        mac = hmac.new(self._record_key, body, hashlib.sha256).hexdigest()
        return body + f',"mac":"{mac}"}}\n'.encode(), Link(seq, mac)

    def read(self, line: bytes) -> Line | None:
        """Read a line without its line end; None if it is no record at all."""
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        mac = hmac.new(self._record_key, found[1], hashlib.sha256).hexdigest().encode()
        genuine = hmac.compare_digest(mac, found[4])
        return Line(int(found[2]), found[3].decode(), found[4].decode(), genuine)

    def write_head(self, head: Head) -> bytes:
        """Return the head, signed."""
        fields = {
            "seq": head.link.seq,
            "mac": head.link.mac,
            "offset": head.offset,
            "key_id": self.key_id,
        }
        return json.dumps(fields | {"sign": self._sign(fields)}).encode() + b"\n"

    def read_head(self, written: bytes) -> Head | None:
        """Read a head; None if it was not signed with this key."""
        try:
            fields = json.loads(written)
            sign = fields.pop("sign")
            genuine = hmac.compare_digest(self._sign(fields), sign)
            return Head(Link(fields["seq"], fields["mac"]), fields["offset"]) if genuine else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def is_other_key(self, written: bytes) -> bool:
        """Whether a head says that it was signed with another key."""
        try:
            return json.loads(written)["key_id"] != self.key_id
        except (ValueError, KeyError, TypeError):
            return False

    def _sign(self, fields: Mapping[str, object]) -> str:
        body = json.dumps(fields, sort_keys=True).encode()
        return hmac.new(self._head_key, body, hashlib.sha256).hexdigest()
