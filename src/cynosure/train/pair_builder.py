"""Build what a ranker learns from: questions, answers, and what a search takes for them. Knows no model.

Wrong texts are what the first stage finds first, without the object itself, its other names, its module,
class and members, objects of the same short name, and such as say the same: these might answer, too. What
is asked of one object in ten is held out; that object's texts are nowhere in what is learned from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cynosure.retrieval import DocsSearch, Documentation, Embedder, Entry, Hit, build_index, open_index
from cynosure.retrieval.asked_phrases import phrases_of
from cynosure.retrieval.search import MAX_RESULTS
from cynosure.retrieval.text import identifier_words
from cynosure.train.loop import Report
from cynosure.train.pair_details import detail_cases
from cynosure.train.pair_questions import (
    MadeQuestion,
    first_sentence,
    is_held_out,
    made_questions,
    sentences,
    unanswerable_questions,
)
from cynosure.train.pairs import ABSENT, ASKED, MADE, UNANSWERABLE, Case, PairData, TextTable

#: Texts that are wrong, at most, for each question.
MAX_WRONG = 29


@dataclass(frozen=True)
class PairRecipe:
    """What decides the data, beside documentation, phrases and embedder."""

    seed: int = 0
    max_made: int = 2000
    max_asked: int = 9000
    max_unanswerable: int | None = None


def build_pairs(
    documentation: Documentation, embedder: Embedder, recipe: PairRecipe, folder: Path, report: Report
) -> PairData:
    """Index the documentation in `folder` without its phrases, ask every question, and keep what is found."""
    bare = replace(documentation, asked={})
    path = folder / "docs.sqlite"
    build_index(path, bare, embedder, lambda done, total: report("Indexing", done, total))
    store = open_index(path, bare.source, embedder)
    try:
        shelf = Shelf(bare, DocsSearch(store, embedder))
        builder = _Builder(shelf, recipe)
        steps = [*builder.asked(documentation), *builder.made(), *builder.unanswerable()]
        cases = []
        for done, step in enumerate(steps, 1):
            cases += builder.cases(step)
            report("Searching for what is wrong", done, len(steps))
        cases += detail_cases(bare.entries, recipe.seed, recipe.max_made, builder.table)
    finally:
        store.close()
        path.unlink()
    return PairData(builder.table.texts(), tuple(cases))


class Shelf:
    """The documentation by its objects, and the first stage of its search."""

    def __init__(self, documentation: Documentation, search: DocsSearch) -> None:
        """Note every object's texts and names."""
        self.entries = documentation.entries
        self.search = search
        self.texts_of: dict[str, list[Entry]] = {}
        for entry in self.entries:
            self.texts_of.setdefault(entry.name, []).append(entry)
        self._passages: dict[str, str] = {}
        for passage in search.store.contents.passages:
            entry = self.entries[passage.entry]
            self._passages.setdefault(entry.name, passage.text(entry.doc))
        self._kin = {name: _kin(texts) for name, texts in self.texts_of.items()}

    def hits(self, question: str, name: str) -> tuple[Hit | None, list[Hit]]:
        """The hit of an object, where it is found, and those that do not answer, the best first."""
        found = self.search.search(question, MAX_RESULTS).hits
        own = next((hit for hit in found if hit.name == name), None)
        return own, [hit for hit in found if not name or not self.are_kin(hit.name, name)]

    def first_passage(self, name: str) -> str:
        """The passage of an object's summary."""
        return self._passages[name]

    def are_kin(self, first: str, second: str) -> bool:
        """Whether what one of two objects answers, the other might answer as well."""
        if first.startswith(f"{second}.") or second.startswith(f"{first}."):
            return True
        return bool(self._kin[first] & self._kin[second])


def _kin(texts: Sequence[Entry]) -> frozenset[str]:
    """All names of an object, its short name, and what its texts say first."""
    names = {name for entry in texts for name in (entry.name, *entry.aliases)}
    return frozenset({*names, texts[0].name.rpartition(".")[2], *map(first_sentence, texts)})


class _Builder:
    def __init__(self, shelf: Shelf, recipe: PairRecipe) -> None:
        self.table = TextTable()
        self._shelf = shelf
        self._recipe = recipe
        self._dice = random.Random(recipe.seed)

    def asked(self, documentation: Documentation) -> list[MadeQuestion]:
        entries = documentation.entries
        found = [
            MadeQuestion(ASKED, phrase.text, entries[phrase.entry].name, "")
            for phrase in phrases_of(entries, documentation.asked)
        ]
        self._dice.shuffle(found)
        return found[: self._recipe.max_asked]

    def made(self) -> list[MadeQuestion]:
        documentation = Documentation("", self._shelf.entries, {})
        found = [
            question
            for question in made_questions(documentation, self._recipe.seed)
            if not is_held_out(question.object)
        ]
        return self._dice.sample(found, min(self._recipe.max_made, len(found)))

    def unanswerable(self) -> list[MadeQuestion]:
        return [
            MadeQuestion(UNANSWERABLE, text, "", "")
            for text in unanswerable_questions()[: self._recipe.max_unanswerable]
        ]

    def cases(self, made: MadeQuestion) -> Iterator[Case]:
        """The cases of one question: of passages, and where people ask it, of sentences."""
        own, others = self._shelf.hits(made.text, made.object)
        held_out = is_held_out(made.object or made.text)
        wrong = [hit for hit in others if held_out or not is_held_out(hit.name)][:MAX_WRONG]
        right = [self._answer(made, own)] if made.object else []
        case = Case(
            kind=made.kind if made.kind in {ASKED, UNANSWERABLE} else MADE,
            question=made.text,
            object=made.object,
            right=self._places(right),
            wrong=self._places([hit.heading + hit.text for hit in wrong]),
            is_held_out=held_out,
        )
        if held_out:
            # What was not among the first hits stands behind all that were.
            first = [] if not made.object else [(own.similarity, own.bm25) if own else (ABSENT, 0.0)]
            seen = [*first, *((hit.similarity, hit.bm25) for hit in wrong)]
            case = replace(case, similarity=tuple(one for one, _ in seen), bm25=tuple(two for _, two in seen))
        yield case
        if case.kind != MADE:
            right, others = self._sentences(made.object, [hit.name for hit in wrong])
            yield replace(
                case,
                right=self._places(right),
                wrong=self._places(others),
                of_sentences=True,
                similarity=(),
                bm25=(),
            )

    def _answer(self, made: MadeQuestion, own: Hit | None) -> str:
        if made.answer:
            return _heading(made.object) + made.answer
        return own.heading + own.text if own else self._shelf.first_passage(made.object)

    def _sentences(self, name: str, wrong: Sequence[str]) -> tuple[list[str], list[str]]:
        """Sentences and signatures that say the answer; others of the object, and those of other objects."""
        right = [line for entry in self._shelf.texts_of.get(name, []) for line in _said_first(entry)]
        own = [
            _heading(name) + " ".join(entry.doc[start:end].split())
            for entry in self._shelf.texts_of.get(name, [])
            for start, end in sentences(entry.doc, (0, len(entry.doc)))
        ]
        # A docstring's first sentences often say the same twice; the later ones are details.
        details = [text for text in own[2:] if text not in right]
        details = self._dice.sample(details, min(4, len(details)))
        others = [line for one in wrong[:10] for line in _said_first(self._shelf.texts_of[one][0])]
        return right, [*details, *others]

    def _places(self, texts: Sequence[str]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.table.place(text) for text in texts))


def _said_first(entry: Entry) -> list[str]:
    """An entry's first sentence and its signature, each under the heading."""
    heading = _heading(entry.name)
    signature = [f"{heading}{entry.name}{entry.signature}"] if entry.signature else []
    return [heading + first_sentence(entry), *signature]


def _heading(name: str) -> str:
    return f"{identifier_words(name)}: "
