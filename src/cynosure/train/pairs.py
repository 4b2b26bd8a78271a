"""Hold the questions and texts that a ranker learns from, in one file. Knows nothing of how they were found.

A text stands once; cases name it by its place. A case is a question with what is right and what is wrong:
either whole passages, as the search gives them, or single sentences and signatures under the same heading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: Kinds of cases: phrases in which people ask, questions made of the text itself, and such as have no answer.
ASKED, MADE, UNANSWERABLE = "asked", "made", "unanswerable"

#: The similarity of a right text that the first stage did not find: below every cosine.
ABSENT = -1.0


@dataclass(frozen=True)
class Case:
    """A question with texts that answer it and others that do not.

    Attributes:
        kind: `asked`, `made` or `unanswerable`.
        question: What is asked.
        object: The object that answers; empty where nothing does.
        right: Places of the texts that answer.
        wrong: Places of others, the first stage's best first.
        of_sentences: Whether the texts are sentences and signatures, not passages.
        is_held_out: Whether it measures, and is never learned from.
        similarity: What the embedder says of each text, the right ones first; kept for what is held out.
        bm25: What words say of each.
    """

    kind: str
    question: str
    object: str
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    of_sentences: bool = False
    is_held_out: bool = False
    similarity: tuple[float, ...] = ()
    bm25: tuple[float, ...] = ()


@dataclass(frozen=True)
class PairData:
    """All texts and all cases."""

    texts: tuple[str, ...]
    cases: tuple[Case, ...]

    def digest(self) -> str:
        """Return one SHA-256 of all that is learned from or measured on."""
        whole = hashlib.sha256()
        for line in self._lines():
            whole.update(line.encode())
        return whole.hexdigest()

    def write(self, path: Path) -> None:
        """Write the file that `read_pairs` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.part")
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(self._lines())
        scratch.replace(path)

    def _lines(self) -> Iterable[str]:
        yield json.dumps(self.texts) + "\n"
        for case in self.cases:
            yield json.dumps(asdict(case)) + "\n"


def read_pairs(path: Path) -> PairData:
    """Read what `PairData.write` wrote."""
    with path.open(encoding="utf-8") as file:
        texts = tuple(json.loads(next(file)))
        cases = tuple(_case(json.loads(line)) for line in file)
    return PairData(texts, cases)


def _case(fields: dict[str, object]) -> Case:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Case(**values)  # type: ignore[arg-type]


class TextTable:
    """Texts with their places, each once."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        """Begin with some texts."""
        self._places = {text: place for place, text in enumerate(texts)}

    def place(self, text: str) -> int:
        """Return where a text stands; a new one goes to the end."""
        return self._places.setdefault(text, len(self._places))

    def texts(self) -> tuple[str, ...]:
        """Return all texts in order."""
        return tuple(self._places)
