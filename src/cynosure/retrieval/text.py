"""Cut identifiers, questions and docstrings into words and spans. Knows nothing of indexes."""

from __future__ import annotations

import re

Span = tuple[int, int]

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
_CALL = re.compile(r"[ \t]*(?P<name>[\w.]+)\(.*\)[ \t]*(?:-+>[^\n]*)?$")
_MENTION = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?:\(\))?")
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")

STOP_WORDS = frozenset(
    _WORD.findall("""
    a an and any are as at be but by can could do does for from get give had has have how i if in into is it
    its let like make me my no not of off on one or our out over should so some something such than that the
    their them then there these they this to up use want was way we what when where which while who why will
    with without would you your
    """)
)


def identifier_words(name: str) -> str:
    """Spell an identifier as words: `urllib.parse.parse_qs` is `urllib parse parse qs`."""
    return " ".join(_WORD.findall(_CAMEL.sub(" ", name))).lower()


def query_terms(question: str) -> list[str]:
    """The words of a question worth looking up, each once, in order.

    Stop words are left out unless the question has nothing else. An identifier also counts as its
    parts, so that `DictReader` finds `reader`.
    """
    found = [word.lower() for word in _WORD.findall(question)]
    found += [part for part in identifier_words(question).split() if part not in found]
    terms = dict.fromkeys(found)
    return [term for term in terms if term not in STOP_WORDS] or list(terms)


def mentions(question: str) -> frozenset[str]:
    """What a question gives as names: dotted ones, calls such as `len()`, one that stands alone."""
    alone = question.strip(" \t\n`?")
    return frozenset(
        found.removesuffix("()")
        for found in _MENTION.findall(question)
        if "." in found or found.endswith("()") or found == alone
    )


def paragraphs(text: str) -> list[Span]:
    """Code-point spans of the text's paragraphs: what blank lines separate."""
    return [(match.start(), match.start() + len(match[0].rstrip())) for match in _PARAGRAPH.finditer(text)]


def summary_span(doc: str, name: str) -> Span:
    """The span of a docstring's first paragraph, past lines that only repeat the signature.

    C functions open with `chain(*iterables) --> chain object`, which says less than what follows.
    """
    short = name.rpartition(".")[2]
    for start, end in paragraphs(doc):
        while start < end:
            line, newline, _ = doc[start:end].partition("\n")
            call = _CALL.match(line)
            if call is None or call["name"].rpartition(".")[2] != short:
                return start, end
            start = min(end, start + len(line) + len(newline))
            start += len(doc[start:end]) - len(doc[start:end].lstrip())
    spans = paragraphs(doc)
    return spans[0] if spans else (0, 0)
