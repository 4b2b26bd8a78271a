"""Decide which sequences run next, and how many tokens of each. Knows nothing of tensors or clocks.

One step is made of four rules, in this order:

1. Whoever decodes gets its token. Where a page is missing, the least urgent that runs is preempted: its
   pages are given up and computed again later.
2. Prompts are prefilled in chunks with what is left of the budget; while someone decodes, one chunk a step
   in all, so that nobody who decodes waits longer than that.
3. The order is: priority (which waiting improves), then the tenant that was served least, then arrival. It
   holds for prompts that are half done as well as for new ones.
4. A new sequence is admitted once pages for its whole prompt and its first token are free, and a page more
   for each that runs. One that must wait keeps those behind it waiting: small ones never starve a large one.

Where layers have a window, all of this holds for their pages too: each sequence is promised as many as it has
blocks, up to what its window touches.

What is of the background is there for these rules while nobody else is, runs or waits. Once somebody comes it
gives its pages up, before anything is planned.
"""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.engine.deadlines import prefill_budget, refusals
from cynosure.engine.fairness import FairQueue, Urgency, order_of_service, urgencies
from cynosure.engine.schedule import Limits, Rates, Refusal, Schedule, SequenceView, Step, WindowLimits

UNKNOWN = Rates()


def schedule(
    waiting: Sequence[SequenceView],
    running: Sequence[SequenceView],
    limits: Limits,
    now: float,
    rates: Rates = UNKNOWN,
) -> Schedule:
    """Plan the next step; the same arguments give the same plan, whatever the order of the lists.

    Args:
        waiting: not begun, or preempted.
        running: admitted, and holding pages for all that is computed.
        limits: what the step may use.
        now: seconds, on the clock of `arrival_s` and `deadline_s`.
        rates: what to predict waits from.
    """
    views, draft = [*waiting, *running], _Draft(limits)
    assert all(view.num_pending > 0 for view in views), "a sequence has nothing left to compute"
    if 0 < sum(view.is_background for view in views) < len(views):
        for view in running:
            if view.is_background:
                draft.stop(view)
        waiting, running = _of_callers(waiting), _of_callers(running)
        views = [*waiting, *running]
    urgency = urgencies(views, now, limits.aging_s)
    assert len(urgency) == len(views), "a sequence is listed twice"
    kept = _decode(draft, running, urgency)
    refused = refusals(order_of_service(waiting, urgency), kept, limits, now, rates)
    decoding = [view for view in kept if view.is_decoding]
    budget = prefill_budget(decoding, draft.budget, limits, now, rates)
    _prefill(draft, _open(waiting, refused), kept, urgency, budget)
    return draft.finish(refused)


class _Draft:
    """A schedule in the making."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budget = limits.max_num_batched_tokens
        self.num_free_blocks = limits.num_free_blocks
        self._free = [window.num_free for window in limits.windows]
        self.preempted: list[str] = []
        self._stopped: list[str] = []
        self._steps: list[Step] = []
        self._new_blocks: dict[str, int] = {}

    def num_missing(self, view: SequenceView, num_tokens: int) -> int:
        """Pages that it lacks to hold so many tokens."""
        return max(0, self.limits.blocks_for(num_tokens) - view.num_blocks_held)

    def has_room(self, view: SequenceView, num_blocks: int, beside: Sequence[SequenceView] = ()) -> bool:
        """Whether it can have so many more pages, and each of those `beside` one."""
        if num_blocks + len(beside) > self.num_free_blocks:
            return False
        return all(
            _growth(window, view, num_blocks) + sum(_growth(window, other, 1) for other in beside) <= num_free
            for window, num_free in zip(self.limits.windows, self._free, strict=True)
        )

    def run(self, view: SequenceView, num_tokens: int, num_blocks: int) -> None:
        assert 0 < num_tokens <= self.budget
        assert self.has_room(view, num_blocks)
        self.budget -= num_tokens
        self.num_free_blocks -= num_blocks
        self._steps.append(Step(view.request_id, num_tokens))
        if num_blocks:
            self._new_blocks[view.request_id] = num_blocks
            for place, window in enumerate(self.limits.windows):
                self._free[place] -= _growth(window, view, num_blocks)

    def stop(self, view: SequenceView) -> None:
        self._give_up(view)
        self._stopped.append(view.request_id)

    def preempt(self, view: SequenceView) -> None:
        self._give_up(view)
        self.preempted.append(view.request_id)

    def _give_up(self, view: SequenceView) -> None:
        self.num_free_blocks += view.num_blocks_held - view.num_blocks_shared
        for place, window in enumerate(self.limits.windows):
            self._free[place] += min(view.num_blocks_held, window.max_held)

    def finish(self, refused: tuple[Refusal, ...]) -> Schedule:
        preempted = (*self._stopped, *self.preempted)
        return Schedule(tuple(self._steps), preempted, refused, self._new_blocks)


def _decode(
    draft: _Draft, running: Sequence[SequenceView], urgency: dict[str, Urgency]
) -> list[SequenceView]:
    """Give every decode its token, the most urgent first; return who still runs."""
    kept = sorted(running, key=lambda view: urgency[view.request_id])
    place = 0
    while place < len(kept) and draft.budget:
        view = kept[place]
        if view.is_decoding and _make_room(draft, kept, view):
            draft.run(view, 1, draft.num_missing(view, view.num_tokens))
        place += 1
    return kept


def _make_room(draft: _Draft, kept: list[SequenceView], view: SequenceView) -> bool:
    """Preempt from the end of `kept` until `view` has its page; False if it had to go itself."""
    while not draft.has_room(view, draft.num_missing(view, view.num_tokens)):
        victim = kept.pop()
        draft.preempt(victim)
        if victim is view:
            return False
    return True


def _prefill(
    draft: _Draft,
    waiting: Sequence[SequenceView],
    kept: Sequence[SequenceView],
    urgency: dict[str, Urgency],
    budget: int,
) -> None:
    """Hand out chunks in fair order; admit while slots and pages last, and never in a step that preempts."""
    halfway = {view.request_id: view for view in kept if not view.is_decoding}
    max_num_seqs = draft.limits.max_num_seqs
    is_open = len(kept) < max_num_seqs and not draft.preempted
    running = list(kept)
    queue = FairQueue([*halfway.values(), *(waiting if is_open else ())], urgency)
    while budget > 0 and (view := queue.pop()) is not None:
        num_blocks = draft.num_missing(view, view.num_tokens + 1)
        if view.request_id not in halfway:
            if len(running) == max_num_seqs or not draft.has_room(view, num_blocks, running):
                queue.keep_only(halfway)
                continue
            running.append(view)
        elif not draft.has_room(view, num_blocks):
            continue
        num_tokens = min(view.num_pending, draft.limits.chunk_size, budget)
        draft.run(view, num_tokens, num_blocks)
        queue.charge(view.tenant, num_tokens)
        budget -= num_tokens


def _growth(window: WindowLimits, view: SequenceView, num_blocks: int) -> int:
    """Pages of a window that it is promised on top, where it gets so many blocks."""
    held = view.num_blocks_held
    return min(held + num_blocks, window.max_held) - min(held, window.max_held)


def _of_callers(views: Sequence[SequenceView]) -> list[SequenceView]:
    return [view for view in views if not view.is_background]


def _open(waiting: Sequence[SequenceView], refused: tuple[Refusal, ...]) -> list[SequenceView]:
    gone = {refusal.request_id for refusal in refused}
    return [view for view in waiting if view.request_id not in gone]
