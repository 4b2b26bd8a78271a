"""Take notes of one sequence while the engine works on it. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from cynosure.cache import Match
from cynosure.engine.report import NOT_ADMITTED, RequestReport
from cynosure.engine.request import Request
from cynosure.models.native.page_choosing import ChosenPages, Recall

#: Chunks that are told one by one; the later ones are added to the last.
MAX_CHUNKS = 64


class Recorder:
    """Takes notes of one sequence, from when it is queued on."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; `clock` is the one of the request's times."""
        self._clock = clock
        self._queued_s = clock()
        is_constrained = request.params.constraint is not None
        self._constraint_s = max(0.0, self._queued_s - request.arrival_s) if is_constrained else 0.0
        self._admitted_s: float | None = None
        self._first_s: float | None = None
        self._last_s: float | None = None
        self._chunks: list[int] = []
        self._page_size = self._num_sought = self._num_found = 0
        self._page_end = NOT_ADMITTED
        self.num_preemptions = 0
        self._num_decode_steps = self._num_constrained = self._num_forced = 0
        self._num_drafted = self._num_accepted = 0
        self._num_choices = self._num_checks = 0
        self._recalled, self._least_recalled = 0.0, 1.0

    def sought(self, match: Match | None, why_not: str, num_prompt_tokens: int, page_size: int) -> None:
        """Note what the prefix cache had, or why it was not asked."""
        if self._admitted_s is not None:
            return  # after a preemption it finds what it left itself
        self._page_size = page_size
        self._page_end = why_not if match is None else match.end.value
        if match is not None:
            self._num_sought = (num_prompt_tokens - 1) // page_size
            self._num_found = len(match.blocks)

    def admitted(self) -> None:
        """Note that it takes part in steps from now on."""
        if self._admitted_s is None:
            self._admitted_s = self._clock()

    def computed(self, num_tokens: int, *, is_decode: bool) -> None:
        """Note a step that it took part in."""
        if is_decode and self._first_s is not None:
            self._num_decode_steps += 1
        elif len(self._chunks) < MAX_CHUNKS:
            self._chunks.append(num_tokens)
        else:
            self._chunks[-1] += num_tokens

    def constrained(self, num_allowed: int) -> None:
        """Note how many tokens its constraint allows next."""
        self._num_constrained += 1
        self._num_forced += num_allowed == 1

    def drafted(self, num_tokens: int) -> None:
        """Note tokens that are guessed and will be checked."""
        self._num_drafted += num_tokens

    def accepted(self) -> None:
        """Note a guessed token that was right, and behind which the answer goes on."""
        self._num_accepted += 1

    def chose_pages(self, chosen: ChosenPages | None, recall: Recall | None) -> None:
        """Note a step that attended to chosen pages, and what they recalled where it was checked."""
        if chosen is None:
            return
        self._num_choices += 1
        if recall is not None:
            self._num_checks += 1
            self._recalled += recall.mean
            self._least_recalled = min(self._least_recalled, recall.least)

    def chose(self) -> None:
        """Note that a token was chosen."""
        self._last_s = self._clock()
        if self._first_s is None:
            self._first_s = self._last_s

    def report(self) -> RequestReport:
        """What was noted so far; what is still going on has lasted until now."""
        now = self._clock()
        admitted_s = now if self._admitted_s is None else self._admitted_s
        first_s = now if self._first_s is None else self._first_s
        return RequestReport(
            constraint_s=self._constraint_s,
            queue_s=admitted_s - self._queued_s,
            prefill_s=first_s - admitted_s,
            decode_s=0.0 if self._last_s is None else self._last_s - first_s,
            chunks=tuple(self._chunks),
            num_decode_steps=self._num_decode_steps,
            page_size=self._page_size,
            num_pages_sought=self._num_sought,
            num_pages_found=self._num_found,
            page_end=self._page_end,
            num_preemptions=self.num_preemptions,
            num_constrained=self._num_constrained,
            num_forced=self._num_forced,
            num_drafted=self._num_drafted,
            num_accepted=self._num_accepted,
            num_page_choices=self._num_choices,
            num_page_checks=self._num_checks,
            recalled=self._recalled / self._num_checks if self._num_checks else None,
            least_recalled=self._least_recalled if self._num_checks else None,
        )
