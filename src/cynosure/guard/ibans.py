"""Find international bank account numbers by country, length and checksum. Knows nothing of banks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cynosure.guard.digits import passes_mod_97
from cynosure.guard.kinds import Kind, Span

_LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20
EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30
KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23
PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26
UA29 VA22 VG24 XK20 YE30
"""
#: Country to number of characters (SWIFT IBAN registry).
LENGTHS = {word[:2]: int(word[2:]) for word in _LENGTHS.split()}

_OPENING = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ -]{0,2}[A-Za-z0-9])")
_LATER = re.compile(r"[ -]{0,2}([A-Za-z0-9])")


def find_ibans(text: str, begin: int) -> Iterator[Span]:
    """Yield the account numbers of a run, from `begin` on; what stands before is context."""
    at = begin
    while opening := _OPENING.search(text, at):
        at = opening.end()
        end = _end(text, opening)
        if end is not None:
            yield Span(Kind.IBAN, opening.start(), end, opening[0][:2].upper())
            at = end


def _end(text: str, opening: re.Match[str]) -> int | None:
    """Where the number that opens here ends, if it is one."""
    country = opening[0][:2].upper()
    length = LENGTHS.get(country)
    if length is None:
        return None
    chars, at = list(opening[0].upper()), opening.end()
    while len(chars) < length:
        later = _LATER.match(text, at)
        if later is None:
            return None
        chars.append(later[1].upper())
        at = later.end()
    if (text[at : at + 1].isalnum() and text[at].isascii()) or not passes_mod_97("".join(chars)):
        return None
    return at
