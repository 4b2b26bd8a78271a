"""Name what can be found in a text, and where it stands. Knows nothing of how it is found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """A kind of finding; the value is the word that stands in a redacted text."""

    SECRET = "secret"
    CARD = "card"
    IBAN = "iban"
    EMAIL = "email"
    PHONE = "phone"


class Span(NamedTuple):
    """`text[start:end]` is of a kind; `rule` says which pattern found it."""

    kind: Kind
    start: int
    end: int
    rule: str
