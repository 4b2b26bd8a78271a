"""Read groups of digits and weigh their checksums. Knows nothing of cards, accounts or phones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_GROUP = re.compile(r"[0-9]+")
_SEPARATOR = re.compile(r"[ .\-]{1,2}")


@dataclass(frozen=True)
class Groups:
    """Neighbouring groups of digits, with one and the same separator between them."""

    spans: tuple[tuple[int, int], ...]
    separator: str


def chains(text: str, begin: int) -> Iterator[Groups]:
    """Yield the maximal chains of digit groups; where the separator changes, a chain ends."""
    spans: list[tuple[int, int]] = []
    separator = ""
    for found in _GROUP.finditer(text, begin):
        between = text[spans[-1][1] : found.start()] if spans else ""
        joined = bool(spans) and _SEPARATOR.fullmatch(between) is not None
        if joined and (separator in ("", between)):
            separator = between
            spans.append(found.span())
            continue
        if spans:
            yield Groups(tuple(spans), separator)
        # The group at which the separator changes may open the next chain as well.
        spans, separator = ([spans[-1], found.span()], between) if joined else ([found.span()], "")
    if spans:
        yield Groups(tuple(spans), separator)


def passes_luhn(digits: str) -> bool:
    """Check the last digit of a card number (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(twice - 9 * (twice > 9) for twice in doubled)) % 10 == 0


def passes_mod_97(iban: str) -> bool:
    """Check the two digits after the country of an upper-case IBAN without spaces (ISO 7064, MOD 97-10)."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1
