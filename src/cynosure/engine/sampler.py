"""Choose the next token of each sequence from its logits. Knows nothing of schedules, caches or text.

The order is that of the engines people come from: penalties, bias, bans, temperature, min-p, top-k, top-p,
typical-p. Whatever rounds is done row by row, or by operations that treat rows apart, so that a row gets the
same bits alone and in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cynosure.core.errors import CynosureError, EngineFault, InputError
from cynosure.engine.filters import above_min_p, among_top_k, places_of, within_top_p, within_typical_p
from cynosure.engine.largest import Likeliest, largest
from cynosure.engine.logprobs import likeliest
from cynosure.engine.penalties import BANNED, add_bias, ban, penalise
from cynosure.engine.request import TokenLogprob
from cynosure.engine.sampling import SamplingParams

#: Weights whose sum is made at once where a token is drawn.
SUMMED_TOGETHER = 1024


@dataclass(frozen=True)
class Row:
    """One sequence whose next token is due.

    - `dice`: on the CPU, and its own (`new_dice`): a row that is not greedy draws one number from it.
    - `eos_token_ids`: those of the checkpoint.
    - `allowed`: what a constraint leaves; None leaves everything.
    - `likeliest`: what stands highest in its logits, where that was found before.
    - `banned`: what the checkpoint never says here.
    """

    params: SamplingParams
    prompt_ids: Sequence[int]
    generated_ids: Sequence[int]
    dice: torch.Generator
    eos_token_ids: Collection[int] = ()
    allowed: Bool[Tensor, " vocab"] | None = None
    banned: frozenset[int] = frozenset()
    likeliest: Likeliest | None = None

    @property
    def held_back(self) -> frozenset[int]:
        """What is banned, and what would end the answer before `min_tokens`, or though `ignore_eos` is set.

        The latter matters to a constraint alone: its end tokens lead nowhere.
        """
        is_short = len(self.generated_ids) < self.params.min_tokens
        held_back = self.banned | (self.params.ends(self.eos_token_ids) if is_short else frozenset())
        leads_nowhere = self.allowed is not None and self.params.ignore_eos
        return held_back.union(self.eos_token_ids) if leads_nowhere else held_back

    @property
    def is_plain(self) -> bool:
        """Whether the likeliest token of the model is the answer."""
        params = self.params
        if not params.is_greedy or self.allowed is not None:
            return False
        return not (params.has_penalties or params.logit_bias or self.held_back)


@dataclass(frozen=True)
class SampledToken:
    """A chosen token; log-probabilities are the model's own, in nats, before anything was changed.

    They cost a pass over the vocabulary, and are `None` where the request asked for none.
    """

    token_id: int
    logprob: float | None
    top_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class SampleError:
    """A row that has no next token; the others have theirs."""

    error: CynosureError


def sample(logits: Float[Tensor, "num_seqs vocab"], rows: Sequence[Row]) -> list[SampledToken | SampleError]:
    """Return what comes of each row, in order; `logits` are left as they are."""
    assert len(rows) == len(logits), "one row of logits a sequence"
    logits = logits.float()
    # A maximum passes NaN on, so that one number a row tells whether it is usable.
    known = [row.likeliest for row in rows if row.likeliest is not None]
    likeliest = known if len(known) == len(rows) else list(map(Likeliest, *largest(logits)))
    found: list[SampledToken | SampleError] = []
    for place, row in enumerate(rows):
        try:
            _check(likeliest[place].logit, row, logits.shape[1])
            token_id = likeliest[place].token_id if row.is_plain else _choose(logits[place], row)
        except CynosureError as error:
            found.append(SampleError(error))
        else:
            # Views of rows are not free: one is made where it is read.
            num_top = row.params.logprobs
            bare = SampledToken(token_id, None)
            found.append(bare if num_top is None else _told(token_id, logits[place], num_top))
    return found


def new_dice(seed: int | None) -> torch.Generator:
    """A request's own source of chance; None makes one that nobody can repeat."""
    dice = torch.Generator()
    if seed is None:
        dice.seed()
    else:
        dice.manual_seed(seed)
    return dice


def _told(token_id: int, logits: Float[Tensor, " vocab"], num_top: int) -> SampledToken:
    logprobs = logits.log_softmax(-1)
    return SampledToken(token_id, float(logprobs[token_id]), likeliest(logprobs, num_top))


def _check(highest: float, row: Row, vocab_size: int) -> None:
    if not math.isfinite(highest):
        raise EngineFault(
            f"the model gave logits whose largest is {highest}; it must be finite. Check the weights, or run "
            "them in a wider dtype."
        )
    row.params.check_vocabulary(vocab_size)


def _choose(logits: Float[Tensor, " vocab"], row: Row) -> int:
    params = row.params
    if params.has_penalties:
        logits = penalise(logits, params, row.prompt_ids, row.generated_ids)
    if params.logit_bias:
        logits = add_bias(logits, params.logit_bias)
    logits = ban(logits, row.allowed, row.held_back)
    highest = logits.max()
    if highest == BANNED:
        raise InputError(
            "the constraint allows no token here; at least one is needed. Change the constraint."
        )
    if params.is_greedy:
        return int(logits.argmax())
    # The largest is taken off first, so that a low temperature can't overflow; one that float32 does not hold
    # would divide nothing by nothing.
    temperature = max(params.temperature, torch.finfo(logits.dtype).tiny)
    return _draw(*_candidates((logits - highest).div_(temperature), params), row.dice)


def _candidates(
    scores: Float[Tensor, " vocab"], params: SamplingParams
) -> tuple[Float[Tensor, " m"], Int[Tensor, " m"] | None]:
    """What may be drawn: scores with their token ids, or all of them with None."""
    token_ids = None
    for keeps in _filters(params):
        kept = places_of(keeps(scores))
        scores = scores[kept]
        token_ids = kept if token_ids is None else token_ids[kept]
    return scores, token_ids


def _filters(params: SamplingParams) -> Iterator[Callable[[Tensor], Tensor]]:
    """Those asked for, in order."""
    if params.min_p > 0.0:
        yield partial(above_min_p, min_p=params.min_p)
    if params.top_k is not None:
        yield partial(among_top_k, top_k=params.top_k)
    if params.top_p < 1.0:
        yield partial(within_top_p, top_p=params.top_p)
    if params.typical_p < 1.0:
        yield partial(within_typical_p, typical_p=params.typical_p)


def _draw(scores: Float[Tensor, " m"], token_ids: Int[Tensor, " m"] | None, dice: torch.Generator) -> int:
    """Draw by the inverse of the distribution function: one number decides, whatever the vocabulary."""
    thrown = torch.rand((), generator=dice, dtype=torch.float64).to(scores.device)
    # What is left is that far below the likeliest; nobody else reads it.
    place = _place_of(scores.exp_(), thrown)
    return place if token_ids is None else int(token_ids[place])


def _place_of(weights: Float[Tensor, " m"], thrown: Float[Tensor, ""]) -> int:
    """Return where the running sum of weights passes `thrown`, a share of the whole.

    Sums of blocks find the block, and running sums are made in that one alone: over a whole vocabulary they
    would cost more than all else. What is found has a weight above 0.
    """
    whole = len(weights) // SUMMED_TOGETHER * SUMMED_TOGETHER
    blocks = weights[:whole].view(-1, SUMMED_TOGETHER).sum(-1, dtype=torch.float64)
    reached = torch.cat([blocks, weights[whole:].sum(dtype=torch.float64)[None]]).cumsum(-1)
    target = thrown * reached[-1]
    block = _first_above(reached, target)
    start = block * SUMMED_TOGETHER
    inside = weights[start : start + SUMMED_TOGETHER].cumsum(-1, dtype=torch.float64)
    return start + _first_above(inside, target - reached[block - 1] if block else target)


def _first_above(reached: Float[Tensor, " m"], target: Float[Tensor, ""]) -> int:
    """Return the first place whose running sum is above `target`; where rounding leaves none, the last."""
    below_all = torch.nextafter(reached[-1], torch.zeros_like(target))
    return int(torch.searchsorted(reached, torch.minimum(target, below_all), right=True))
