"""Find what a growing text holds, once no later character can change it. Knows nothing of policy.

There is one scanner for whole texts and for streams: a whole text is a stream of one piece. What is found
depends on the characters alone, not on how they were cut into pieces, since each step looks at one window
that starts where the last one ended and is as long as the text or the limits allow.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cynosure.guard.cards import find_cards
from cynosure.guard.credentials import PEM_GOES_ON, PEM_RULE, TOKEN_GOES_ON, find_credentials
from cynosure.guard.emails import find_emails
from cynosure.guard.fold import fold
from cynosure.guard.ibans import find_ibans
from cynosure.guard.kinds import Kind, Span
from cynosure.guard.phones import find_phones
from cynosure.guard.runs import prose_end, run_end, run_start

MAX_VISIBLE = 512
"""Characters held back at most, those that are drawn as nothing not counted."""
MAX_HELD = 4096
"""Code points held back at most, all counted."""

# A finding this near to the end of a window could have gone on; so far back detectors may look.
_MARGIN, _CONTEXT = 64, 8

DETECTORS: Sequence[Callable[[str, int], Iterator[Span]]] = (
    find_credentials,
    find_cards,
    find_ibans,
    find_emails,
    find_phones,
)
# Whatever is found holds a digit, an at sign, a sign of assignment or the ruler of a key, or is a long word.
_SUSPECT = re.compile(r"[0-9@:=]|-----|[A-Za-z_-]{20}")


class Settled(NamedTuple):
    """A piece of the text that nothing can change any more, and what it holds.

    `start` is where the piece starts in the whole text; the spans count from there, too, and may overlap.
    """

    text: str
    start: int
    spans: tuple[Span, ...]


class _Window(NamedTuple):
    """Where the next run starts in the folded text, and how far it may be looked at."""

    start: int
    end: int
    is_full: bool


class Scanner:
    """Takes a text piece by piece and settles as much as no later character can change."""

    def __init__(self) -> None:
        self._raw = ""
        self._start = 0
        self._context = ""
        # How much of the pending run need not be looked at again to see where it ends.
        self._looked_at = 0
        self._going_on: tuple[str, re.Pattern[str]] | None = None

    @property
    def num_settled(self) -> int:
        """How many code points were settled so far."""
        return self._start

    def push(self, text: str) -> Settled:
        """Read on; return what is settled by it."""
        self._raw += text
        return self._settle(is_end=False)

    def finish(self) -> Settled:
        """Settle the rest: nothing follows."""
        return self._settle(is_end=True)

    def _settle(self, is_end: bool) -> Settled:
        folded, places = fold(self._raw)
        done, spans = self._go_on(folded, places, 0)
        while (window := self._window(folded, places, done)).start < window.end:
            if not self._looked_at and (plain := prose_end(folded, window.start)) > window.start:
                done = plain
                continue
            run = run_end(folded, window.start, window.end, window.start + self._looked_at)
            self._looked_at = 0
            if run.is_closed or (is_end and not window.is_full):
                spans += _placed(self._look(folded, window.start, run.end), places)
                done = run.end
            elif window.is_full:
                found, done = self._cut(folded, window)
                spans += _placed(found, places)
                done, rest = self._go_on(folded, places, done)
                spans += rest
            else:
                self._looked_at = run.last_chunk - window.start
                break
        return self._release(folded, places, window.start, spans)

    def _window(self, folded: str, places: Sequence[int], done: int) -> _Window:
        start = run_start(folded, done, len(folded))
        if start == len(folded):
            return _Window(start, start, False)
        visible = start + MAX_VISIBLE
        held = places[start] + MAX_HELD
        end = min(visible, bisect.bisect_left(places, held))
        return _Window(start, min(end, len(folded)), visible <= len(folded) or held <= len(self._raw))

    def _look(self, folded: str, start: int, end: int) -> list[Span]:
        """Ask every detector about a run; what stands before it serves as context."""
        if not _SUSPECT.search(folded, start, end):
            return []
        context = (self._context + folded[max(0, start - _CONTEXT) : start])[-_CONTEXT:]
        run, begin = context + folded[start:end], len(context)
        spans = [span for detector in DETECTORS for span in detector(run, begin)]
        shift = start - begin
        return [span._replace(start=span.start + shift, end=span.end + shift) for span in spans]

    def _cut(self, folded: str, window: _Window) -> tuple[list[Span], int]:
        """Settle the first half of a run that is too long; the second half is looked at again.

        A secret that reaches the end of the window is known for one: the rest of it is read as it comes.
        """
        half = window.start + max(1, (window.end - window.start) // 2)
        kept = [
            span
            for span in self._look(folded, window.start, window.end)
            if span.kind is Kind.SECRET or span.start < half or span.end <= window.end - _MARGIN
        ]
        reaching = [span for span in kept if span.kind is Kind.SECRET and span.end == window.end]
        if reaching:
            is_key = any(span.rule == PEM_RULE for span in reaching)
            rule = PEM_RULE if is_key else reaching[0].rule
            self._going_on = (rule, PEM_GOES_ON if is_key else TOKEN_GOES_ON)
        return kept, max([half, *(span.end for span in kept)])

    def _go_on(self, folded: str, places: Sequence[int], at: int) -> tuple[int, list[Span]]:
        """Read on in a secret that was longer than a window, over invisible characters too."""
        if self._going_on is None:
            return at, []
        rule, pattern = self._going_on
        found = pattern.match(folded, at)
        assert found is not None, "what goes on may be empty"
        start = places[at - 1] + 1 if at else 0
        end = len(self._raw)
        if found.end() < len(folded):
            self._going_on = None
            end = places[found.end()]
        return found.end(), [Span(Kind.SECRET, start, end, rule)] if start < end else []

    def _release(self, folded: str, places: Sequence[int], done: int, spans: list[Span]) -> Settled:
        """Cut off what is settled, and count spans in the characters of the whole text."""
        cut = places[done] if done < len(folded) else len(self._raw)
        start = self._start
        shown = tuple(span._replace(start=start + span.start, end=start + span.end) for span in spans)
        settled = Settled(self._raw[:cut], start, shown)
        self._context = (self._context + folded[:done])[-_CONTEXT:]
        self._raw, self._start = self._raw[cut:], start + cut
        return settled


def _placed(spans: Sequence[Span], places: Sequence[int]) -> list[Span]:
    """Count spans of the folded text in the characters as they came."""
    return [span._replace(start=places[span.start], end=places[span.end - 1] + 1) for span in spans]
