"""Say which logits a prompt's log-probabilities need, and read them off. Knows nothing of models or pages."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cynosure.engine.logprobs import score_prompt
from cynosure.engine.request import PromptLogprobs, Request
from cynosure.engine.task import Task


def num_reusable(request: Request, num_tokens: int) -> int:
    """How many of the first tokens may come from pages that are kept, which hold no logits.

    Pages hold what was read without a bias, where one holds from a later token on.
    """
    params = request.params
    unbiased = request.bias_from or num_tokens
    # The logits that tell how likely a token is are those of the token before it.
    wanted = num_tokens if params.prompt_logprobs is None else params.prompt_logprobs_start
    return min(wanted, unbiased, num_tokens)


def prompt_scores(task: Task, rows: Float[Tensor, "rows vocab"]) -> PromptLogprobs | None:
    """How likely tokens of the prompt were, where that was asked for and not told before.

    `rows` are the logits of the last tokens of the task, and of its draft.
    """
    sequence, params = task.sequence, task.sequence.request.params
    if params.prompt_logprobs is None:
        return None
    stop = sequence.num_computed + task.num_tokens + 1
    # The token that the first row speaks of.
    first = stop - (len(rows) - len(task.draft))
    # What is computed again after a preemption may come in other chunks.
    start = max(first, params.prompt_logprobs_start, sequence.num_scored)
    stop = min(stop, sequence.num_prompt_tokens)
    if start >= stop:
        return None
    scored = score_prompt(
        rows[start - first : stop - first], sequence.token_ids[start:stop], params.prompt_logprobs
    )
    tokens, tops = tuple(token for token, _ in scored), tuple(top for _, top in scored)
    return PromptLogprobs(sequence.request.request_id, start, tokens, tops)
