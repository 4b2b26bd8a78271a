"""Find where a conversation repeats what a model generated. Knows nothing of who keeps it, nor how long.

A text has many spellings in tokens, and a model need not choose the tokenizer's. Where the tokens that it
chose stand in the next prompt as they were, what was computed of them is found again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, runtime_checkable

from cynosure.models.chat.template import RenderedPrompt, is_role_path
from cynosure.models.text.tokenizer import Tokenizer

Span = tuple[int, int]


@dataclass(frozen=True)
class Generated:
    """What a model once wrote behind the first `start` code points of a text."""

    start: int
    token_ids: Sequence[int]


@runtime_checkable
class Earlier(Protocol):
    """What was generated before."""

    def behind(self, text: str) -> Iterable[Generated]:
        """All that was written behind a beginning of this text, sorted by where it starts."""
        ...


@dataclass(frozen=True)
class Splice:
    """Tokens that spell `start:end` of a text, in code points, and the span of each."""

    start: int
    end: int
    token_ids: tuple[int, ...]
    offsets: tuple[Span, ...]


def splices_in(rendered: RenderedPrompt, tokenizer: Tokenizer, earlier: Earlier) -> list[Splice]:
    """Where tokens stand for a part of a rendered conversation, sorted and apart.

    They are taken for a message that is what they spell, or a beginning of it (an answer that a stop string
    cut); not for one that was changed. They always spell the very text, byte for byte, and are a control
    token exactly where the template wrote one.
    """
    splices: list[Splice] = []
    reader: _Reader | None = None
    for start, ways in groupby(earlier.behind(rendered.text), key=lambda way: way.start):
        if splices and start < splices[-1].end:
            continue
        reader = reader or _Reader(rendered, tokenizer)
        found = [splice for way in ways if (splice := reader.splice(way)) is not None]
        if found:
            splices.append(max(found, key=lambda splice: splice.end))
    return splices


class _Reader:
    """Holds tokens against one rendered text."""

    def __init__(self, rendered: RenderedPrompt, tokenizer: Tokenizer) -> None:
        self._text = rendered.text
        self._tokenizer = tokenizer
        self._runs = [run for run in rendered.runs if len(run.path) > 1 and run.path[0] == "messages"]
        self._ends = [run.end for run in self._runs]
        literals = set(rendered.literals)
        self._control = [span for span in tokenizer.control_spans(rendered.text) if span not in literals]
        self._control_ends = [end for _, end in self._control]

    def splice(self, way: Generated) -> Splice | None:
        """The longest part of the way that the text goes too; None where it is not the same message."""
        if self._control_in(way.start, way.start) is not None:
            return None
        end, limit = self._message(way.start)
        text = self._text[way.start : limit].encode()
        spelled = list(self._spelled(way, text))
        stop = spelled[-1][1] if spelled else 0
        left = text[stop : len(self._text[way.start : end].encode())]
        following = way.token_ids[len(spelled) :]
        if following and not self._tokenizer.token_bytes(following[0]).startswith(left):
            return None
        # Half a character is left to the tokenizer.
        while spelled and _goes_on(text[spelled[-1][1] : spelled[-1][1] + 1]):
            spelled.pop()
        if not spelled:
            return None
        spans = tuple(span for span, _ in spelled)
        return Splice(way.start, spans[-1][1], tuple(way.token_ids[: len(spans)]), spans)

    def _message(self, start: int) -> Span:
        """Where the message that is written at `start` ends, and where the next one may begin."""
        place = bisect_right(self._ends, start)
        while place < len(self._runs) and is_role_path(self._runs[place].path):
            place += 1
        end, index = start, None
        for run in self._runs[place:]:
            if index not in (None, run.path[1]):
                return end, run.start
            end, index = run.end, run.path[1]
        return end, len(self._text)

    def _spelled(self, way: Generated, text: bytes) -> Iterator[tuple[Span, int]]:
        """Each token's span as long as they spell the text, and its end in bytes."""
        position, num_begun = 0, way.start
        for token_id in way.token_ids:
            piece = self._tokenizer.token_bytes(token_id)
            stop = position + len(piece)
            if not piece or text[position:stop] != piece:
                return
            # A token that holds a part of a character spans all of it.
            begin = num_begun - _goes_on(piece)
            num_begun += sum(byte & 0xC0 != 0x80 for byte in piece)
            if not self._may_stand(token_id, (begin, num_begun)):
                return
            yield (begin, num_begun), stop
            position = stop

    def _may_stand(self, token_id: int, span: Span) -> bool:
        """Control tokens stand where the template wrote them, whole, and nothing else stands there."""
        touched = self._control_in(*span)
        return touched == span if self._tokenizer.is_control(token_id) else touched is None

    def _control_in(self, start: int, end: int) -> Span | None:
        """The first of the template's control tokens that reaches into a span, or around a place."""
        place = bisect_right(self._control_ends, start)
        found = self._control[place] if place < len(self._control) else None
        return found if found is not None and found[0] < end else None


def _goes_on(text: bytes) -> bool:
    """Whether UTF-8 begins in the middle of a character."""
    return text[:1] != b"" and text[0] & 0xC0 == 0x80
