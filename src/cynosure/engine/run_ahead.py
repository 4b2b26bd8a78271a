"""Decode some tokens before anyone looks at the first of them. Knows nothing of schedules.

What stands around a pass (schedule, sampler, events) finds the caches full of weights, and takes a good part
of a short step. So a step may run its pass some times over, each time from the likeliest token of the last.
The sampler then looks at all of them as it looks at guesses: a token that it does not choose, or behind which
the answer ends, takes what follows it away. Tokens come in bursts too short to be seen, and new requests wait
as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cynosure.engine.runner import Runner
from cynosure.engine.task import Task

#: What a step may take with what it decodes ahead.
MAX_BURST_S = 0.025


def tokens_ahead(tasks: Sequence[Task], limit: int, step_s: float | None) -> int:
    """Return how many tokens each sequence gets beyond its next one; all have pages for them.

    Args:
        tasks: of one step.
        limit: tokens at most.
        step_s: what a step of decodes takes; `None` where that is not known yet.
    """
    if not limit or not step_s or not tasks or not all(map(_goes_on_by_itself, tasks)):
        return 0
    room = min(task.sequence.request.max_num_tokens - len(task.sequence.token_ids) - 1 for task in tasks)
    count = min(limit, int(MAX_BURST_S / step_s) - 1, room)
    if count < 1:
        return 0
    return count if all(task.sequence.pages.reserve(1 + count) for task in tasks) else 0


def run_ahead(
    runner: Runner, tasks: Sequence[Task], num_ahead: int
) -> tuple[Sequence[Task], Sequence[Float[Tensor, "rows vocab"]]]:
    """Run tasks in one pass, then `num_ahead` times from what it gave; return their wanted rows.

    What was decoded ahead of a task is a draft of its own.
    """
    work = [task.work for task in tasks]
    rows = runner.run(work)
    if not num_ahead:
        return tasks, rows
    ahead = [[task.watched_after(number) for task in tasks] for number in range(1, 1 + num_ahead)]
    rows, guessed = runner.run_on(work, rows, ahead)
    drafted = [
        replace(task, draft=tuple(one.token_id for one in ahead), is_own=True, likeliest=ahead)
        for task, ahead in zip(tasks, guessed, strict=True)
    ]
    return drafted, rows


def _goes_on_by_itself(task: Task) -> bool:
    """Whether the likeliest token is what the sampler will choose, and a plain step is all that it takes."""
    request, params = task.sequence.request, task.sequence.request.params
    is_greedy = params.is_greedy and not params.has_penalties and not params.logit_bias
    is_bare = params.constraint is None and not request.bias
    return task.is_decode and not task.draft and is_greedy and is_bare and task.has_plain_step
