"""Make questions that a documentation answers, out of its own text. Knows nothing of search or of models.

Four kinds, beside the phrases in which people ask: a summary in other words, a sentence taken out of its
passage, a name with its parameters, a section's heading. Each comes with the passage that answers it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.retrieval.documents import REFERENCE, Documentation, Entry
from cynosure.retrieval.text import Span, identifier_words, paragraphs, summary_span

UNANSWERABLE = Path(__file__).with_name("data") / "unanswerable.jsonl"

#: One object in so many is held out, chosen by a hash of its name; one unanswerable question, by its own.
HELD_OUT_OF = 10

MIN_WORDS, MAX_WORDS = 4, 40

_SENTENCE_END = re.compile(r"(?<=[.!?])[ \n]\s*(?=[\"'`(]?[A-Z])")
_PARAMETER = re.compile(r"[(,]\s*\*{0,2}([a-z_]+)")

#: What summaries begin with, and what people say for it.
_SAID = {
    "return": ("get", "find", "give me"),
    "create": ("make", "set up"),
    "construct": ("make", "build"),
    "remove": ("delete", "get rid of"),
    "convert": ("turn", "change"),
    "check": ("find out", "test"),
    "determine": ("find out", "tell"),
    "compute": ("work out", "calculate"),
    "retrieve": ("get", "fetch"),
    "write": ("save", "write"),
    "read": ("read", "load"),
    "display": ("show", "print"),
    "execute": ("run",),
    "invoke": ("call", "run"),
    "iterate": ("go", "loop"),
    "raise": ("raise",),
    "send": ("send",),
    "set": ("set", "change"),
    "open": ("open",),
    "parse": ("read", "take apart"),
    "wait": ("wait", "block"),
    "split": ("split", "cut"),
    "add": ("add", "put"),
    "print": ("print", "show"),
}
_OPENINGS = ("how do I {}", "{}", "a way to {}", "I want to {}", "how can one {}", "need to {}")


@dataclass(frozen=True)
class MadeQuestion:
    """A question, the object that it is about, and the text under the object's heading that answers it."""

    kind: str
    text: str
    object: str
    answer: str


def is_held_out(name: str) -> bool:
    """Whether nothing that is asked of this object, or this question, is learned from."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % HELD_OUT_OF == 0


def made_questions(documentation: Documentation, seed: int) -> list[MadeQuestion]:
    """Return the questions made of each text; which words are left out depends on the seed and the text."""
    return [
        question
        for place, entry in enumerate(documentation.entries)
        for question in _of_entry(entry, random.Random(f"{seed} {place} {entry.name}"))
    ]


def unanswerable_questions(path: Path = UNANSWERABLE) -> list[str]:
    """Return the questions that were written to have no answer in the library's documentation."""
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [row["question"] for row in rows]


def sentences(doc: str, span: Span) -> list[Span]:
    """Return where the sentences of a part of a docstring stand; they do not go past a paragraph's end."""
    found = []
    for start, end in paragraphs(doc[span[0] : span[1]]):
        edges = [span[0] + start]
        for match in _SENTENCE_END.finditer(doc, span[0] + start, span[0] + end):
            edges += [match.start(), match.end()]
        edges.append(span[0] + end)
        found += zip(edges[::2], edges[1::2], strict=True)
    return found


def first_sentence(entry: Entry) -> str:
    """Return the first sentence of a summary, on one line."""
    span = summary_span(entry.doc, entry.name)
    found = sentences(entry.doc, span)
    start, end = found[0] if found else span
    return " ".join(entry.doc[start:end].split())


def in_other_words(summary: str, name: str, dice: random.Random) -> str:
    """Ask for what a summary says: without the name's words mostly, and with some words left out."""
    words = summary.rstrip(".").split()
    own = set(identifier_words(name).split())
    kept = [
        word for word in words[1:] if dice.random() > (0.6 if word.lower().strip("'`\",.()") in own else 0.12)
    ]
    verb = words[0].lower()
    said = _SAID.get(verb) or _SAID.get(verb.removesuffix("s")) or _SAID.get(verb.removesuffix("es"))
    if said is None:
        return " ".join([words[0].lower() if words[0].istitle() else words[0], *kept])
    return dice.choice(_OPENINGS).format(" ".join([dice.choice(said), *kept]))


def _of_entry(entry: Entry, dice: random.Random) -> Iterator[MadeQuestion]:
    doc = entry.doc
    summary = first_sentence(entry)
    if _is_long_enough(summary):
        yield MadeQuestion("paraphrase", in_other_words(summary, entry.name, dice), entry.name, "")
    spans = [span for span in sentences(doc, (0, len(doc))) if _is_long_enough(doc[slice(*span)])]
    if len(spans) > 1:
        start, end = dice.choice(spans)
        low, high = _around(spans, (start, end))
        rest = f"{doc[low:start].rstrip()} {doc[end:high].lstrip()}".strip()
        yield MadeQuestion("cloze", " ".join(doc[start:end].split()), entry.name, rest)
    parameters = _PARAMETER.findall(entry.signature)
    if parameters and dice.random() < 0.3:
        chosen = dice.sample(parameters, min(2, len(parameters)))
        short = entry.name.rpartition(".")[2]
        name = dice.choice((entry.name, short, identifier_words(entry.name)))
        yield MadeQuestion("name", " ".join([name, *chosen]), entry.name, "")
    title, _, rest = doc.partition("\n")
    is_section = entry.source == REFERENCE and entry.kind == "module" and not title.endswith((".", ":"))
    if is_section and 2 <= len(title.split()) <= 8 and len(rest.split()) >= MIN_WORDS:
        yield MadeQuestion("heading", title, entry.name, rest.strip())


def _is_long_enough(text: str) -> bool:
    return MIN_WORDS <= len(text.split()) <= MAX_WORDS


def _around(spans: Sequence[Span], taken: Span) -> Span:
    """The sentences beside the one that is taken out, three on each side."""
    place = spans.index(taken)
    near = spans[max(0, place - 3) : place + 4]
    return near[0][0], near[-1][1]
