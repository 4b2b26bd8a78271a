"""Find keys, tokens and passwords by their shape or by the name they are assigned to. Tries none of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from cynosure.guard.kinds import Kind, Span

_B64, _URL = r"[A-Za-z0-9+/]", r"[A-Za-z0-9_-]"

#: Shapes that their issuers document. A character of the same alphabet on either side is another word.
_SHAPES: dict[str, str] = {
    "aws_key_id": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    "github_token": r"gh[pousr]_[A-Za-z0-9]{36,255}",
    "github_fine_grained": r"github_pat_[A-Za-z0-9_]{60,255}",
    "gitlab_token": rf"gl(?:pat|dt|rt|ptt|cbt)-{_URL}{{20,255}}",
    "openai_like": rf"sk-(?=[A-Za-z_-]{{0,80}}[0-9])(?=[a-z0-9_-]{{0,80}}[A-Z]){_URL}{{20,}}",
    "slack_token": r"xox[abeoprs]-[A-Za-z0-9-]{10,255}",
    "google_key": rf"AIza{_URL}{{35}}",
    "stripe_key": r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}",
    "huggingface_token": r"hf_[A-Za-z0-9]{30,64}",
    "npm_token": r"npm_[A-Za-z0-9]{36}",
    "pypi_token": rf"pypi-AgE{_URL}{{50,}}",
    "sendgrid_key": rf"SG\.{_URL}{{16,32}}\.{_URL}{{32,64}}",
    "jwt": rf"eyJ{_URL}{{8,400}}\.eyJ{_URL}{{8,}}(?:\.{_URL}*)?",
}
_SHAPED = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    + "|".join(f"(?P<{name}>{shape})" for name, shape in _SHAPES.items())
    + r")(?![A-Za-z0-9_])"
)

_RULER_NAME = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?"
_BREAK = r"(?:\s|\\[nr])"
_PEM = re.compile(
    rf"-----BEGIN {_RULER_NAME}-----{_BREAK}*+(?:[A-Za-z-]{{1,20}}: [^\n\\]{{1,100}}{_BREAK}++){{0,4}}"
    rf"{_B64}{{16,}}+=*(?:{_BREAK}++{_B64}{{16,}}+=*)*(?:{_BREAK}++{_B64}+=*(?={_BREAK}*-----END))?"
    rf"(?:{_BREAK}*-----END {_RULER_NAME}-----|{_BREAK}*\Z)?"
)
# The last line of a key whose body was read before, in a stream.
_PEM_END = re.compile(rf"-----END {_RULER_NAME}-----")
PEM_RULE = "private_key"

#: What may follow where a secret reaches the end of what can be held back.
TOKEN_GOES_ON = re.compile(r"[A-Za-z0-9_+/=.~%-]*")
PEM_GOES_ON = re.compile(r"[A-Za-z0-9+/=\s\\]*")

_HEADER = re.compile(rf"(?<![A-Za-z])(?:bearer|basic|token) +({_B64[:-1]}_.~-]{{16,}}=*)", re.IGNORECASE)
_IN_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://([^\s/:@\"']{0,64}):([^\s/@\"']{4,200})@")
_ASSIGNED = re.compile(
    r"(?P<name>(?:api|access|auth|client|secret|private|signing|encryption|account)[_-]?"
    r"(?:access[_-]?)?(?:key|token|secret)|(?<![A-Za-z])pass|password|passwd|passphrase|pwd|secret|token"
    r"|credentials?)(?:[_-][A-Za-z0-9]{1,16}){0,2}['\"]?[ \t]{0,3}(?::=|==?|:)[ \t]{0,3}['\"]?"
    r"(?P<value>(?:(?!&\w{1,40}=)[^\s'\"(),;]){6,})",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"pass|pwd", re.IGNORECASE)
# Names of variables, paths, and what documentation writes in place of a secret.
_REFERENCE = re.compile(
    r"[$%]|[a-z_]\w*(?:\.[a-z_]\w*)+\Z|\.{0,2}/[\w.-]+(?:/[\w.-]+)*/?\Z|(.)\1{5}|\*{3}"
    r"|your|my[_-]|example|placeholder|changeme",
    re.IGNORECASE,
)
MIN_BITS, MIN_TOKEN = 3.0, 16


def find_credentials(text: str, begin: int) -> Iterator[Span]:
    """Yield the secrets of a run, from `begin` on; what stands before is context."""
    for found in _SHAPED.finditer(text, begin):
        yield Span(Kind.SECRET, *found.span(), found.lastgroup or "shape")
    if text.find("-----", begin) >= 0:
        for pattern in (_PEM, _PEM_END):
            for found in pattern.finditer(text, begin):
                yield Span(Kind.SECRET, *found.span(), PEM_RULE)
    for found in _IN_URL.finditer(text, begin):
        if not _REFERENCE.match(found[2]):
            yield Span(Kind.SECRET, *found.span(2), "password_in_url")
    for found in _HEADER.finditer(text):
        if found.start(1) >= begin and _is_random(found[1]):
            yield Span(Kind.SECRET, *found.span(1), "authorization")
    for found in _ASSIGNED.finditer(text, begin):
        if _is_secret(found):
            yield Span(Kind.SECRET, *found.span("value"), "assigned")


def bits_per_character(text: str) -> float:
    """Shannon entropy of the characters of a text."""
    counts = Counter(text).values()
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts)


def _num_classes(text: str) -> int:
    return sum((
        any(char.islower() for char in text),
        any(char.isupper() for char in text),
        any(char.isdigit() for char in text),
        any(not char.isalnum() for char in text),
    ))  # fmt: skip


def _is_random(value: str) -> bool:
    """Long, varied, and with digits among letters: unlike a word, a path or a number."""
    has_both = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return len(value) >= MIN_TOKEN and has_both and bits_per_character(value) >= MIN_BITS


def _is_secret(found: re.Match[str]) -> bool:
    value = found["value"]
    if _REFERENCE.match(value):
        return False
    if _PASSWORD.match(found["name"]):
        has_mark = any(not char.isalpha() for char in value)
        return len(value) >= 8 and has_mark and _num_classes(value) >= 3
    return _is_random(value)
