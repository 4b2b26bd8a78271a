"""Predict who can be done in time, and what that leaves to others. Decides from rates; reads no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Limits, Rates, Refusal, SequenceView


def refusals(
    queue: Sequence[SequenceView], running: Sequence[SequenceView], limits: Limits, now: float, rates: Rates
) -> tuple[Refusal, ...]:
    """Say who of `queue`, in the order of service, can never fit, or not by its deadline.

    The prediction is fluid: prompts ahead are prefilled one after the other, and slots come free evenly.
    Memory is not predicted, so it errs on the side of trying. What ran before is never refused.
    """
    found = []
    pending_ahead = sum(view.num_pending for view in running if not view.is_decoding)
    place = len(running)
    for view in queue:
        refusal = None
        if not view.was_admitted:
            refusal = _too_large(view, limits)
            if refusal is None and view.deadline_s is not None:
                slot_s = _slot_wait_s(place + 1 - limits.max_num_seqs, len(running), rates)
                wait_s = max(slot_s, _prefill_s(pending_ahead, limits, rates))
                refusal = _too_late(view, wait_s + _prefill_s(view.num_pending, limits, rates), now, rates)
        if refusal is None:
            pending_ahead += view.num_pending
            place += 1
        else:
            found.append(refusal)
    return tuple(found)


def prefill_budget(
    decoding: Sequence[SequenceView], num_tokens: int, limits: Limits, now: float, rates: Rates
) -> int:
    """How many of `num_tokens` may go to prompts: what those who decode can bear.

    Where someone decodes, one chunk at most; less where a deadline asks for faster steps, though never less
    than a page. A deadline that is lost even without prompts does not count.
    """
    if not decoding:
        return num_tokens
    budget = min(num_tokens, limits.chunk_size)
    if rates.prefill_tokens_per_s is None or rates.step_s is None:
        return budget
    for view in decoding:
        if view.deadline_s is not None:
            spare_s = (view.deadline_s - now) / _answer_left(view, rates) - rates.step_s
            if spare_s >= 0.0:
                affordable = math.floor(spare_s * rates.prefill_tokens_per_s)
                budget = min(budget, max(limits.block_size, affordable))
    return budget


def _too_large(view: SequenceView, limits: Limits) -> Refusal | None:
    num_blocks = limits.blocks_for(view.max_num_tokens)
    for window in limits.windows:
        if min(num_blocks, window.max_held) > window.num_pages:
            message = (
                f"request {view.request_id!r} may reach {view.max_num_tokens} tokens, and needs "
                f"{min(num_blocks, window.max_held)} pages in layers with a window; they have "
                f"{window.num_pages} in all. Shorten the prompt, lower max_tokens, or give the cache more "
                "memory."
            )
            return Refusal(view.request_id, RefusalReason.TOO_LARGE, message, None)
    if num_blocks <= limits.num_blocks:
        return None
    message = (
        f"request {view.request_id!r} may reach {view.max_num_tokens} tokens, {num_blocks} pages of "
        f"{limits.block_size}; there are {limits.num_blocks} in all. Shorten the prompt, lower max_tokens, "
        "or give the cache more memory."
    )
    return Refusal(view.request_id, RefusalReason.TOO_LARGE, message, None)


def _too_late(view: SequenceView, wait_s: float, now: float, rates: Rates) -> Refusal | None:
    assert view.deadline_s is not None
    left_s = view.deadline_s - now
    total_s = wait_s + (_answer_left(view, rates) - 1) * (rates.step_s or 0.0)
    if left_s > 0.0 and total_s <= left_s:
        return None
    message = (
        f"request {view.request_id!r} would begin to be answered in {wait_s:.3g} s and be done in "
        f"{total_s:.3g} s; its deadline is in {left_s:.3g} s. Try again later, ask for fewer tokens, "
        "or allow more time."
    )
    return Refusal(view.request_id, RefusalReason.DEADLINE, message, wait_s)


def _answer_left(view: SequenceView, rates: Rates) -> int:
    """Tokens of a usual answer, where the request allows that many."""
    return max(1, min(view.max_num_tokens - view.num_tokens, math.ceil(rates.answer_tokens)))


def _prefill_s(num_tokens: int, limits: Limits, rates: Rates) -> float:
    """Seconds to prefill in chunks, with everyone's decode in each step."""
    if rates.prefill_tokens_per_s is None:
        return 0.0
    num_steps = -(-num_tokens // limits.chunk_size)
    return num_tokens / rates.prefill_tokens_per_s + num_steps * (rates.step_s or 0.0)


def _slot_wait_s(num_in_front: int, num_running: int, rates: Rates) -> float:
    if num_in_front <= 0 or rates.step_s is None:
        return 0.0
    return num_in_front * rates.answer_tokens * rates.step_s / max(1, num_running)
