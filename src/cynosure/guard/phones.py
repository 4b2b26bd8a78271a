"""Find telephone numbers, international and in common national forms. Knows nothing of who answers.

A number without a plus, a cue (`Tel:`) or a layout of its own is left alone: too many other things are ten
digits long. Dates, dotted versions, numbers inside identifiers and years in parentheses are no phones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cynosure.guard.kinds import Kind, Span

_CODES = """
1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66
81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232
233 234 235 236 237 238 239 240 241 242 243 244 245 246 247 248 249 250 251 252 253 254 255 256 257 258
260 261 262 263 264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370
371 372 373 374 375 376 377 378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506
507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683
685 686 687 688 689 690 691 692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962
963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996 998
"""
#: Country calling codes (ITU-T E.164).
CALLING_CODES = frozenset(_CODES.split())

# ASCII words: in Chinese or Japanese a number stands right beside the words around it.
_ALONE_BEFORE = r"(?<![A-Za-z0-9_#+])(?<![A-Za-z0-9_][-./])(?<![0-9],)"
_ALONE_AFTER = r"(?![A-Za-z0-9_])(?![-./,:][0-9])"
_ENDS_CHAIN = r"(?! {0,2}[0-9])"
_SEP = r"(?: ?[-./] ?|  ?)"
# Possessive, so that a long number is one group and not every way to cut it.
_MORE = rf"(?:{_SEP}?(?:\([0-9]{{1,4}}\){_SEP}?)?[0-9]++)"

_INTERNATIONAL = re.compile(
    rf"(?:(?<![A-Za-z0-9_+])\+|{_ALONE_BEFORE}00)([1-9][0-9]*+{_MORE}{{0,8}}){_ALONE_AFTER}"
)
_NORTH_AMERICAN = re.compile(
    rf"{_ALONE_BEFORE}(?:1[ .-])?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}[ .-])[0-9]{{3}}[ .-][0-9]{{4}}"
    rf"{_ALONE_AFTER}"
)
_TRUNK = re.compile(
    rf"{_ALONE_BEFORE}0[1-9][0-9]{{0,4}}(?:{_SEP}[0-9]{{2,8}}){{1,5}}{_ALONE_AFTER}{_ENDS_CHAIN}"
)
_PARENTHESES = re.compile(
    rf"{_ALONE_BEFORE}\(0?[1-9][0-9]{{1,4}}\)[ -]?[0-9]{{3,8}}(?:[ -][0-9]{{2,8}}){{0,3}}{_ALONE_AFTER}"
)
_CHINESE_MOBILE = re.compile(
    rf"{_ALONE_BEFORE}1[3-9][0-9]([ -])[0-9]{{4}}\1[0-9]{{4}}{_ALONE_AFTER}{_ENDS_CHAIN}"
)
#: Layouts that say by themselves that a number is a phone's, with the least and most digits.
_NATIONAL = (
    (_NORTH_AMERICAN, "north_american", 10, 11),
    (_TRUNK, "trunk", 9, 12),
    (_PARENTHESES, "parentheses", 9, 12),
    (_CHINESE_MOBILE, "chinese_mobile", 11, 11),
)
_CUED = re.compile(
    r"(?<![A-Za-z])(?:tel|telephone|telefon|phone|mobile|mobil|cell|fax|whatsapp|call|sms)"
    rf"['\"]?\.?[:=]? {{0,2}}['\"]?(\(?[0-9]++{_MORE}{{0,8}}){_ALONE_AFTER}",
    re.IGNORECASE,
)
_YEAR = r"(?:19|20)[0-9]{2}"
_DAY = r"[0-3]?[0-9]"
_DATE = re.compile(
    rf"(?:{_YEAR}[-./ ]{_DAY}[-./ ]{_DAY}|{_DAY}[-./ ]{_DAY}[-./ ]{_YEAR})(?![0-9])|\({_YEAR}\)"
)
_GROUP = re.compile(r"[0-9]+")
_NOT_DIGITS = re.compile(r"[^0-9]+")


def find_phones(text: str, begin: int) -> Iterator[Span]:
    """Yield the phone numbers of a run, from `begin` on; what stands before is context."""
    for found in _INTERNATIONAL.finditer(text, begin):
        end = _international_end(text, found)
        if end is not None:
            yield Span(Kind.PHONE, found.start(), end, "international")
    for pattern, rule, least, most in _NATIONAL:
        for found in pattern.finditer(text, begin):
            if least <= _num_digits(found[0]) <= most and not _is_list_or_date(found[0]):
                yield Span(Kind.PHONE, found.start(), found.end(), rule)
    for found in _CUED.finditer(text):
        if found.start(1) >= begin and 7 <= _num_digits(found[1]) <= 15 and not _DATE.match(found[1]):
            yield Span(Kind.PHONE, found.start(1), found.end(1), "cued")


def _num_digits(number: str) -> int:
    return len(_NOT_DIGITS.sub("", number))


def _is_list_or_date(number: str) -> bool:
    """Dates, US social security numbers and ZIP+4 codes, and pairs of digits unless five, as in France."""
    sizes = [len(group) for group in _GROUP.findall(number)]
    is_american = sizes == [3, 2, 4] or (sizes == [5, 4] and number[5] == "-")
    return bool(_DATE.match(number)) or is_american or (set(sizes) == {2} and len(sizes) != 5)


def _international_end(text: str, found: re.Match[str]) -> int | None:
    """Where the number ends: after the last group that still fits its plan; None if it is no number.

    A calling code must exist. `00` needs a separator somewhere, since ids begin with zeros.
    """
    digits = _NOT_DIGITS.sub("", found[1])
    is_marked = found[0][0] == "+" or digits != found[1]
    if not is_marked or not any(digits[:length] in CALLING_CODES for length in (1, 2, 3)):
        return None
    # Numbers of code 1 have one length.
    least, most = (11, 11) if digits[0] == "1" else (8, 15)
    num_digits, end = 0, None
    for group in _GROUP.finditer(text, found.start(1), found.end(1)):
        num_digits += len(group[0])
        if least <= num_digits <= most:
            end = group.end()
    return end
