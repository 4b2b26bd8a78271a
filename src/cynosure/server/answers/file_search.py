"""Search files before a model answers, show it what was found, and cite that. Knows no tokens.

The query is what the user said last: the model is not asked for one. Passages stand in the user's turn as
parts of their own, called `doc:1` and on, so that attention and quotes can speak of them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cynosure.core.errors import InputError
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.server.answers.finding import Finding, find
from cynosure.server.schemas.citations import AnswerCitation
from cynosure.server.schemas.file_search import (
    FileCitation,
    FileSearchResult,
    FileSearchTool,
    OutputFileSearch,
)
from cynosure.server.schemas.grounding import DOCUMENT, GroundingReport
from cynosure.server.services import Services

_PATH = "tools.file_search"
_LEAD = "These passages were found in files, each behind its number:"
_MARK = re.compile(r"\[(\d{1,3})\]")


@dataclass(frozen=True)
class FileSearch:
    """What was searched for, and the passages that were found."""

    id: str
    query: str
    found: tuple[Finding, ...]
    tells_results: bool

    @classmethod
    async def made(
        cls, services: Services, tool: FileSearchTool, turns: Sequence[Message], *, tells_results: bool
    ) -> FileSearch:
        """Search with what the user said last.

        Raises:
            InputError: he said nothing, or what he said can't be a query.
            NotFound: there is no such store.
        """
        spoken = [turn for turn in turns if turn.role == "user"]
        query = "\n".join(text.text for text in spoken[-1].texts) if spoken else ""
        if not query.strip():
            raise InputError(
                "file_search has no query: what the user says last is searched for, and there is no such "
                "text. Send a user message."
            )
        only = None if tool.filters is None else tool.filters.filter
        found = await find(services, tool.vector_store_ids, [query], tool.num_results, only, tool.threshold)
        return cls(f"fs_{uuid.uuid4().hex}", query, tuple(found), tells_results)

    @property
    def passages(self) -> list[tuple[str, str]]:
        """The names and texts of the parts of the prompt that passages are."""
        return [(_name(number), one.quote.text) for number, one in enumerate(self.found, 1)]

    @property
    def names(self) -> Mapping[str, str]:
        """The names of these parts, by their paths."""
        return {_path(number): _name(number) for number, _ in enumerate(self.found, 1)}

    def before_question(self, turns: Sequence[Message]) -> list[Message]:
        """The turns with what was found in the user's last, before what he said."""
        if not self.found:
            return list(turns)
        texts = [CallerText(_LEAD, f"{_PATH}.lead")]
        for number, one in enumerate(self.found, 1):
            label = f"[{number}] {one.filename}"
            texts += [CallerText(label, f"{_path(number)}.label"), CallerText(one.quote.text, _path(number))]
        last = max(place for place, turn in enumerate(turns) if turn.role == "user")
        changed = replace(turns[last], texts=(*texts, *turns[last].texts))
        return [*turns[:last], changed, *turns[last + 1 :]]

    def item(self) -> OutputFileSearch:
        """The search as an item of the answer, before it is made."""
        return OutputFileSearch(id=self.id, status="in_progress", queries=[self.query])

    def results(self) -> list[FileSearchResult] | None:
        """What was found, where that was asked for."""
        if not self.tells_results:
            return None
        return [
            FileSearchResult(
                file_id=one.file_id,
                filename=one.filename,
                score=one.quote.score,
                attributes=one.attributes,
                text=one.quote.text,
            )
            for one in self.found
        ]

    def citations(
        self,
        text: str,
        quoted: GroundingReport | None = None,
        cited: Sequence[AnswerCitation] | None = None,
    ) -> list[FileCitation]:
        """The files of an answer: of its quotes, else of its marks such as `[1]`, else all, at its end.

        The last says which files the model was given passages of, and not that it used them. Where it was
        asked what sentences cite, it is that and nothing else.
        """
        if cited is not None:
            numbers = {name: number for number, (name, _) in enumerate(self.passages)}
            sources = [(one.end, source.id) for one in cited for source in one.sources]
            return self._cited([(end, numbers[name]) for end, name in sources if name in numbers])
        if quoted is not None:
            numbers = {name: number for number, (name, _) in enumerate(self.passages)}
            return self._cited([(span.end, numbers[span.segment]) for span in quoted.spans if span.segment])
        marks = [(mark.end(), int(mark[1]) - 1) for mark in _MARK.finditer(text)]
        marks = [(end, number) for end, number in marks if 0 <= number < len(self.found)]
        return self._cited(marks or [(len(text), number) for number in range(len(self.found))])

    def _cited(self, places: Sequence[tuple[int, int]]) -> list[FileCitation]:
        cited: dict[tuple[int, str], FileCitation] = {}
        for index, number in places:
            one = self.found[number]
            cited.setdefault(
                (index, one.file_id),
                FileCitation(index=index, file_id=one.file_id, filename=one.filename),
            )
        return list(cited.values())


def _name(number: int) -> str:
    return f"{DOCUMENT}:{number}"


def _path(number: int) -> str:
    return f"{_PATH}.results[{number - 1}].text"
