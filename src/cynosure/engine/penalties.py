"""Change logits by what was said and what was asked, before anything is drawn. Knows nothing of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cynosure.engine.sampling import SamplingParams

BANNED = float("-inf")


def penalise(
    logits: Float[Tensor, " vocab"],
    params: SamplingParams,
    prompt_ids: Sequence[int],
    generated_ids: Sequence[int],
) -> Float[Tensor, " vocab"]:
    """Make tokens that were there before less likely, each once, however often it was there.

    Repetition divides a positive logit and multiplies a negative one (Keskar et al., 1909.05858, section
    4.1), for prompt and answer. Frequency and presence subtract, for the answer alone.
    """
    logits = logits.clone()
    if params.repetition_penalty != 1.0 and (prompt_ids or generated_ids):
        seen = torch.tensor([*prompt_ids, *generated_ids], device=logits.device)
        values = logits[seen]
        penalty = params.repetition_penalty
        logits[seen] = torch.where(values < 0, values * penalty, values / penalty)
    counts = Counter(generated_ids)
    if counts and (params.frequency_penalty or params.presence_penalty):
        said = torch.tensor(list(counts), device=logits.device)
        times = torch.tensor(list(counts.values()), device=logits.device, dtype=logits.dtype)
        logits[said] -= params.frequency_penalty * times + params.presence_penalty
    return logits


def add_bias(logits: Float[Tensor, " vocab"], bias: Sequence[tuple[int, float]]) -> Float[Tensor, " vocab"]:
    """Add to the logits of single tokens."""
    token_ids, added = zip(*bias, strict=True)
    place = torch.tensor(token_ids, device=logits.device)
    values = torch.tensor(added, device=logits.device, dtype=logits.dtype)
    return logits.index_add(0, place, values)


def ban(
    logits: Float[Tensor, " vocab"], allowed: Bool[Tensor, " vocab"] | None, held_back: frozenset[int]
) -> Float[Tensor, " vocab"]:
    """Leave what is allowed, without the tokens held back, unless nothing else is allowed."""
    if allowed is not None:
        logits = logits.masked_fill(~allowed.to(logits.device), BANNED)
    if held_back:
        place = torch.tensor(sorted(held_back), device=logits.device)
        without = logits.index_fill(0, place, BANNED)
        logits = logits if bool((without == BANNED).all()) else without
    return logits
