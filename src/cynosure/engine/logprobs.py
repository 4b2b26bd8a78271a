"""Read off how likely tokens are to the model itself. Knows nothing of sampling."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from cynosure.engine.request import TokenLogprob


def score_prompt(
    logits: Float[Tensor, "n vocab"], token_ids: Sequence[int], num_top: int
) -> list[tuple[TokenLogprob, tuple[TokenLogprob, ...]]]:
    """For each row, a token that stands there and the `num_top` likeliest: for the logprobs of a prompt."""
    assert len(token_ids) == len(logits)
    logprobs = logits.float().log_softmax(-1)
    return [
        (TokenLogprob(token_id, float(row[token_id])), likeliest(row, num_top))
        for token_id, row in zip(token_ids, logprobs, strict=True)
    ]


def likeliest(logprobs: Float[Tensor, " vocab"], num_top: int) -> tuple[TokenLogprob, ...]:
    """The `num_top` likeliest tokens, in order; all where there are fewer."""
    if not num_top:
        return ()
    values, token_ids = logprobs.topk(min(num_top, len(logprobs)))
    return tuple(TokenLogprob(*pair) for pair in zip(token_ids.tolist(), values.tolist(), strict=True))
