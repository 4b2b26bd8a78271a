"""Decide which inputs an encoder-decoder reads next. Knows nothing of tensors, pages or clocks.

Answers that run get a token in every step. Who waits is let in by priority (which waiting improves), then the
tenant that was served least, then arrival, once pages for all that it may ever need are free: nobody is taken
out again. One that must wait keeps those behind it waiting, so that small ones never starve a large one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.engine.fairness import FairQueue, urgencies
from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Rates, Refusal, SequenceView

_AGING_S = 10.0


@dataclass(frozen=True)
class Candidate:
    """A request that waits.

    `view` is of its answer, and orders it. `num_encoded` tokens of its input must be encoded. It may come to
    take `num_input_blocks` for the input (none where it is shared) and `num_answer_blocks` for what it
    answers, along `num_lines` sequences.
    """

    view: SequenceView
    num_encoded: int
    num_input_blocks: int
    num_answer_blocks: int
    num_lines: int


@dataclass(frozen=True)
class Room:
    """What a step may take on.

    `num_free_blocks` are those that nobody holds or was promised. Inputs of `num_tokens` in all are read in a
    step; one that is longer by itself goes alone.
    """

    num_tokens: int
    num_lines: int
    num_free_blocks: int
    num_blocks: int
    max_num_lines: int


@dataclass(frozen=True)
class Admission:
    """Who begins in this step, in order, and who never will."""

    admitted: tuple[str, ...]
    refused: tuple[Refusal, ...]


def admit(candidates: Sequence[Candidate], room: Room, now: float, rates: Rates) -> Admission:
    """Say who begins; the same arguments give the same answer, whatever the order of the list."""
    by_id = {one.view.request_id: one for one in candidates}
    assert len(by_id) == len(candidates), "a request is listed twice"
    refused = [refusal for one in candidates if (refusal := _refusal(one, room, now, rates))]
    gone = {refusal.request_id for refusal in refused}
    views = [one.view for one in candidates if one.view.request_id not in gone]
    queue = FairQueue(views, urgencies(views, now, _AGING_S))
    admitted: list[str] = []
    budget, lines, blocks = room.num_tokens, room.num_lines, room.num_free_blocks
    while (view := queue.pop()) is not None:
        one = by_id[view.request_id]
        num_blocks = one.num_input_blocks + one.num_answer_blocks
        fits = one.num_encoded <= budget or budget == room.num_tokens
        if not fits or one.num_lines > lines or num_blocks > blocks:
            break
        admitted.append(view.request_id)
        budget, lines, blocks = budget - one.num_encoded, lines - one.num_lines, blocks - num_blocks
        queue.charge(view.tenant, one.num_encoded)
    return Admission(tuple(admitted), tuple(refused))


def _refusal(one: Candidate, room: Room, now: float, rates: Rates) -> Refusal | None:
    request_id = one.view.request_id
    num_blocks = one.num_input_blocks + one.num_answer_blocks
    if num_blocks > room.num_blocks or one.num_lines > room.max_num_lines:
        message = (
            f"request {request_id!r} may take {num_blocks} pages and {one.num_lines} sequences; there are "
            f"{room.num_blocks} and {room.max_num_lines} in all. Shorten the prompt, lower max_tokens or "
            "num_beams, or give the cache more memory."
        )
        return Refusal(request_id, RefusalReason.TOO_LARGE, message, None)
    deadline_s = one.view.deadline_s
    if deadline_s is None:
        return None
    wait_s = one.num_encoded / rates.prefill_tokens_per_s if rates.prefill_tokens_per_s else 0.0
    num_tokens = min(one.view.max_num_tokens - one.view.num_tokens, math.ceil(rates.answer_tokens))
    total_s = wait_s + max(1, num_tokens) * (rates.step_s or 0.0)
    left_s = deadline_s - now
    if left_s > 0.0 and total_s <= left_s:
        return None
    message = (
        f"request {request_id!r} would be done in {total_s:.3g} s; its deadline is in {left_s:.3g} s. Ask "
        "for fewer tokens, or allow more time."
    )
    return Refusal(request_id, RefusalReason.DEADLINE, message, wait_s)
