"""Ask the documentation of this interpreter: index, embedder and evidence together. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import apsw

from cynosure.core.errors import EnvironmentFault, IndexFault, NotFound
from cynosure.insight import evidence_of
from cynosure.insight.evidence import AttendsTokens, TokenWeights
from cynosure.retrieval import (
    GATE,
    LINE,
    Answering,
    AttendedSpan,
    Calibration,
    DocsSearch,
    Embedder,
    Gate,
    Hit,
    Ranker,
    build_index,
    checked_reference,
    find_reference,
    open_index,
    python_source,
    read_python_docs,
)
from cynosure.server.runtime import Report
from cynosure.server.services import Answer, Attended, Highlight, Quote, SourcePlace, SourceText

NAME = "python-docs"
TITLE = f"Documentation of Python {sys.version.split()[0]}"

#: Questions that are ranked at one time; others wait.
MAX_ASKING = 4

_log = logging.getLogger(__name__)


class DocsEmbedder(Embedder, AttendsTokens, Protocol):
    """What turns passages into vectors, and tells what it attended to in them."""


class DocsRanker(Ranker, Protocol):
    """What reads texts with the question, and tells what it attended to in them."""

    def attended(self, question: str, text: str) -> TokenWeights:
        """The shares of one text's tokens."""
        ...


class PythonDocs:
    """The documentation, searched and quoted. May be asked by several threads."""

    def __init__(
        self,
        search: DocsSearch,
        embedder: DocsEmbedder,
        name: str = NAME,
        title: str = TITLE,
        ranker: DocsRanker | None = None,
        gate: Gate = GATE,
    ) -> None:
        """Take an opened index, the embedder that made it, and the ranker of the search, where it has one.

        Objects are docstrings or parts of files; `gate` decides, with the ranker, whether anything answers.
        """
        self.name, self.title = name, title
        self.num_documents = search.num_objects
        self.num_passages = len(search.store.contents.passages)
        self.num_bytes = search.store.num_bytes
        self._search = search
        self._answering = Answering(search, embedder, ranker, gate)
        self._embedder = embedder
        self._ranker = ranker

    def search(self, query: str, max_results: int) -> Sequence[Quote]:
        """The best passages, at most one an object, best first, whatever their score."""
        found = self._search.search(query, max_results)
        return [self._quote(hit, found.calibration) for hit in found.hits]

    def ask(self, question: str, max_results: int) -> Answer:
        """The best passages with what was attended to in them, or none where nothing fits."""
        words = _Words(_Asked(question, self._ranker) if self._ranker is not None else self._embedder)
        answered = self._answering.answer(question, max_results, words)
        found, quoted = answered.found, answered.quoted
        quotes = tuple(
            replace(
                self._quote(passage.hit, found.calibration),
                attended=_relative(passage.attended),
                highlight=Highlight(*passage.highlight) if passage.highlight else None,
            )
            for passage in quoted.passages
        )
        timings = {stage: round(milliseconds, 1) for stage, milliseconds in answered.timings_ms.items()}
        if answered.signs is not None:
            reason = "" if quoted.answered else f"{_capital(quoted.reason)}."
            return Answer(quoted.answered, reason, quotes, quoted.confidence, LINE, timings)
        best = found.calibration.chance(found.hits[0].score) if found.hits else 0.0
        reason = (
            "" if quoted.answered else f"The best passage scores {best:.2f}; below {LINE} it is no answer."
        )
        return Answer(quoted.answered, reason, quotes, best, LINE, timings)

    def source(self, place: SourcePlace) -> SourceText:
        """The text that a quote is a slice of.

        Raises:
            NotFound: No text of that object holds the place.
        """
        for entry in self._search.store.contents.entries:
            is_named = entry.name == place.object and place.file in ("", entry.module)
            if is_named and (place.file or entry.source == place.source):
                start, end = place.start - entry.start, place.end - entry.start
                if 0 <= start <= end <= len(entry.doc):
                    return SourceText(
                        place.object, entry.kind, entry.signature, entry.doc, start, end, entry.start,
                        entry.source, place.file,
                    )  # fmt: skip
        raise NotFound(
            f"no {place.source} of {place.object[:100]!r} in {self.name!r} holds {place.start}..{place.end}. "
            "Send object, start, end, source and file as a quote has them; the index may have changed since."
        )

    def _quote(self, hit: Hit, calibration: Calibration) -> Quote:
        return Quote(
            text=hit.text,
            object=hit.name,
            kind=hit.kind,
            signature=hit.signature,
            start=hit.start,
            end=hit.end,
            score=round(calibration.chance(hit.score), 4),
            similarity=round(hit.similarity, 4),
            file="" if self.name == NAME else hit.module,
            source=hit.source,
        )


class ThreadedDocs:
    """The documentation as the server asks it: on threads beside the event loop, which may wait."""

    def __init__(self, docs: PythonDocs) -> None:
        """Start threads as they are needed."""
        self.name, self.title = docs.name, docs.title
        self.num_documents, self.num_bytes = docs.num_documents, docs.num_bytes
        self._docs = docs
        self._threads = ThreadPoolExecutor(MAX_ASKING, thread_name_prefix="docs")

    async def search(self, query: str, max_results: int) -> Sequence[Quote]:
        """As `PythonDocs.search`."""
        return await asyncio.wrap_future(self._threads.submit(self._docs.search, query, max_results))

    async def ask(self, question: str, max_results: int) -> Answer:
        """As `PythonDocs.ask`."""
        return await asyncio.wrap_future(self._threads.submit(self._docs.ask, question, max_results))

    async def source(self, place: SourcePlace) -> SourceText:
        """As `PythonDocs.source`."""
        return await asyncio.wrap_future(self._threads.submit(self._docs.source, place))


@dataclass(frozen=True)
class _Words:
    """What a model attended to, by word."""

    model: AttendsTokens

    def attended(self, text: str) -> Sequence[AttendedSpan]:
        return [AttendedSpan(*word) for word in evidence_of(self.model, text).words]


@dataclass(frozen=True)
class _Asked:
    """What a ranker attends to in texts that it reads with one question."""

    question: str
    ranker: DocsRanker

    def attended(self, text: str) -> TokenWeights:
        return self.ranker.attended(self.question, text)


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _relative(spans: Sequence[AttendedSpan]) -> tuple[Attended, ...]:
    """Weights relative to the largest in the quote, whose heading was attended to as well."""
    most = max((span.weight for span in spans), default=0.0)
    return tuple(Attended(at.start, at.end, round(at.weight / most, 4)) for at in spans if at.weight > 0)


def open_python_docs(
    path: Path,
    embedder: DocsEmbedder,
    report: Report,
    reference: Path | None = None,
    ranker: DocsRanker | None = None,
) -> PythonDocs:
    """Open the index at `path`; where it is absent, stale or damaged, build it first.

    Args:
        path: The index.
        embedder: Makes the vectors.
        report: Told of what is done.
        reference: The reference documentation; `None` takes the one that is installed, if any.
        ranker: Reads the best objects' passages and sentences.
    """
    source = python_source(reference_of(reference))
    try:
        store = open_index(path, source, embedder)
    except IndexFault as fault:
        if path.exists():
            _log.warning("%s", fault)
        build_python_docs(path, embedder, report, reference)
        store = open_index(path, source, embedder)
    return PythonDocs(DocsSearch(store, embedder, ranker=ranker), embedder, ranker=ranker)


def build_python_docs(path: Path, embedder: Embedder, report: Report, reference: Path | None = None) -> None:
    """Read the documentation, embed it and write the index, in place of one that is there.

    Raises:
        EnvironmentFault: it can't be written; where that can be known, before the work and not behind it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as fault:
        raise unwritable(path, fault) from fault
    report("Reading the documentation of this Python", 0, 0)
    documentation = read_python_docs(reference=reference_of(reference))
    for module, why in documentation.failed.items():
        _log.info("%s was left out: %s", module, why)
    stage = "Indexing passages"
    report(stage, 0, 0)
    try:
        build_index(path, documentation, embedder, lambda done, total: report(stage, done, total))
    except (OSError, apsw.Error) as fault:
        raise unwritable(path, fault) from fault


def reference_of(named: Path | None) -> Path | None:
    """The reference documentation that was named, or else the one that is installed for this Python."""
    return checked_reference(named) if named else find_reference(os.environ)


def index_path(folder: Path) -> Path:
    """Where the index of this Python lies; another version has another file."""
    return folder / f"{NAME}-{sys.implementation.name}-{'.'.join(map(str, sys.version_info[:3]))}.sqlite"


def unwritable(path: Path, fault: BaseException) -> EnvironmentFault:
    """What to raise where an index can't be written."""
    # What was tried next, such as a rollback, may have failed as well: the first failure tells why.
    while fault.__context__ is not None:
        fault = fault.__context__
    return EnvironmentFault(
        f"the index can't be written to {path} ({fault}). Free some space, or name another folder: "
        "--index-dir, or CYNOSURE_HOME."
    )
