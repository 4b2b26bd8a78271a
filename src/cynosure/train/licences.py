"""Say which installed packages may be learned from, by the licence that each declares. Reads no source.

A licence counts as permissive where every part that binds is named below. What declares none, or says it in
words that are not known here, is left out: silence gives no permission.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

#: SPDX names, in lower case, and what older metadata calls the same licences.
PERMISSIVE = frozenset(
    ("mit", "mit-cmu", "mit-0", "bsd", "bsd-2-clause", "bsd-3-clause", "0bsd", "apache-2.0", "psf-2.0",
     "python-2.0", "isc", "zlib", "cc0-1.0", "bsl-1.0", "unlicense", "hpnd", "cnri-python")
)  # fmt: skip
_WORDS = {
    "apache": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "apache 2.0 license": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "apache software license": "apache-2.0",
    "mit license": "mit",
    "the mit license (mit)": "mit",
    "bsd license": "bsd",
    "3-clause bsd license": "bsd-3-clause",
    "bsd 2-clause license": "bsd-2-clause",
    "bsd 3-clause license": "bsd-3-clause",
    "psfl": "psf-2.0",
    "python software foundation license": "psf-2.0",
    "isc license": "isc",
    "isc license (iscl)": "isc",
}
_HEADERS = frozenset(("license-expression", "license", "classifier"))
_CLASSIFIER = "License :: OSI Approved :: "
_EXCEPTION = re.compile(r"\s+with\s+\S+")


@dataclass(frozen=True, order=True)
class Licensed:
    """A package that may be learned from, and the licence by which it may."""

    name: str
    version: str
    licence: str


def is_permissive(licence: str) -> bool:
    """Whether an SPDX expression, or a licence's name in older words, asks for no more than a notice.

    Of an `AND`, every part must be permissive; of an `OR`, one.
    """
    plain = _EXCEPTION.sub("", licence.strip().lower())
    if _WORDS.get(plain, plain) in PERMISSIVE:
        return True
    if "(" in plain or " " not in plain:
        return False
    joined = [part.split(" or ") for part in plain.split(" and ")]
    return all(any(_WORDS.get(one.strip(), one.strip()) in PERMISSIVE for one in part) for part in joined)


def licence_of(fields: Iterable[tuple[str, str]]) -> str:
    """The licence that the headers of a package's metadata declare; empty where they declare none.

    The expression counts before the free text, and that before the classifiers; text that runs over a line is
    the licence itself, and its classifiers say which.
    """
    found: dict[str, list[str]] = {}
    for key, value in fields:
        found.setdefault(key.lower(), []).append(value.strip())
    for text in (*found.get("license-expression", ()), *found.get("license", ())):
        if text and "\n" not in text and len(text) < 120:
            return text
    approved = [one for one in found.get("classifier", ()) if one.startswith(_CLASSIFIER)]
    return " AND ".join(one.removeprefix(_CLASSIFIER) for one in approved)


def _headers(package: metadata.Distribution) -> list[tuple[str, str]]:
    read = package.metadata
    wanted = dict.fromkeys(key for key in read if key.lower() in _HEADERS)
    return [(key, value) for key in wanted for value in read.get_all(key) or ()]


def permissive_packages(left_out: Iterable[str] = ()) -> list[Licensed]:
    """The installed packages under a permissive licence, by name, without those `left_out`."""
    unwanted = {name.lower() for name in left_out}
    found: dict[str, Licensed] = {}
    for package in metadata.distributions():
        name, licence = package.name.lower(), licence_of(_headers(package))
        if name not in unwanted and is_permissive(licence):
            found.setdefault(name, Licensed(name, package.version, licence))
    return sorted(found.values())
