"""Train a ranker, which says whether a text is relevant and whether it answers. Serves nothing.

Three logits a pair. `relevant` is learned from lists of one right passage and seven wrong ones, `answers`
from lists of sentences and signatures, `no_answer` from passages: a third of all lists hold no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import InputError
from cynosure.train.loop import Check, Course, Fitted, Report, Schedule, fit, optimiser_of, silent
from cynosure.train.pair_batches import Listed, Lists, PairReader
from cynosure.train.pair_encoder import PairEncoder, PairShape
from cynosure.train.pairs import PairData

LABELS = ("relevant", "answers", "no_answer")
RELEVANT, ANSWERS, NO_ANSWER = range(3)

#: How much each pair's own loss counts beside that of its list, which only compares.
PAIR_WEIGHT = 0.3


@dataclass(frozen=True)
class RankerRecipe:
    """All that decides what comes out, beside data, starting weights and the number of threads.

    The run ends after `num_steps`, or after `max_minutes` where that is sooner.
    """

    num_steps: int = 3000
    max_minutes: float | None = None
    peak_rate: float = 1.5e-4
    weight_decay: float = 0.01
    max_tokens: int = 160
    is_mixed: bool = True
    seed: int = 0
    every: int = 250

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: no step, no time, or pairs that have no room for a question and a text.
        """
        assert self.schedule.num_steps == self.num_steps
        if self.max_tokens < 16:
            raise InputError(f"max_tokens is {self.max_tokens}; the limit is 16. Raise it.")

    @property
    def schedule(self) -> Schedule:
        """Steps, rates and time."""
        return Schedule(self.num_steps, self.peak_rate, self.max_minutes)


def new_ranker(start: Path, recipe: RankerRecipe, shape: PairShape) -> PairEncoder:
    """Return a cross-encoder with the weights of the bare encoder in the folder `start`, and a drawn head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = PairEncoder(shape)
    encoder.start_from(load_file(start / "model.safetensors"))
    return encoder


def train_ranker(
    encoder: PairEncoder,
    data: PairData,
    reader: PairReader,
    recipe: RankerRecipe,
    checkpoint: Path,
    report: Report = silent,
    check: Check | None = None,
) -> Fitted:
    """Take all steps, or those that are left of the run that `checkpoint` holds."""
    lists = Lists(data, recipe.seed)

    def loss_of(step: int) -> Float[Tensor, ""]:
        listed = lists.of_step(step)
        return loss_of_lists(listed, logits_of(encoder, reader, pairs_of(listed)))

    optimiser = optimiser_of(encoder, recipe.peak_rate, recipe.weight_decay)
    course = Course(recipe.schedule, recipe.is_mixed, checkpoint, recipe.every)
    return fit(encoder, optimiser, loss_of, course, report, check)


def pairs_of(lists: Sequence[Listed]) -> list[tuple[str, str]]:
    """Return all pairs of some lists, in order."""
    return [(listed.question, text) for listed in lists for text in listed.texts]


def logits_of(
    encoder: PairEncoder, reader: PairReader, pairs: Sequence[tuple[str, str]]
) -> Float[Tensor, "pairs labels"]:
    """Return the logits of pairs, in their order and in float32."""
    chunks = reader.read(pairs)
    device = encoder.classifier.weight.device
    found = [
        encoder(chunk.token_ids.to(device), chunk.type_ids.to(device), chunk.is_text.to(device)).float()
        for chunk in chunks
    ]
    order = torch.cat([chunk.places for chunk in chunks]).argsort()
    return torch.cat(found)[order.to(device)]


def loss_of_lists(lists: Sequence[Listed], logits: Float[Tensor, "pairs labels"]) -> Float[Tensor, ""]:
    """Return the loss of some lists: each list's own, and each pair's, averaged."""
    parts, start = [], 0
    for listed in lists:
        rows = logits[start : start + len(listed.texts)]
        start += len(listed.texts)
        is_right = torch.tensor(listed.is_right, device=rows.device)
        column = rows[:, ANSWERS if listed.of_sentences else RELEVANT]
        loss = PAIR_WEIGHT * _pair_loss(column, is_right)
        if any(listed.is_right):
            loss = loss + _list_loss(column, is_right)
        if not listed.of_sentences:
            loss = loss + PAIR_WEIGHT * _pair_loss(rows[:, NO_ANSWER], ~is_right, odd=is_right)
        parts.append(loss)
    return torch.stack(parts).mean()


def _list_loss(column: Float[Tensor, " texts"], is_right: Tensor) -> Float[Tensor, ""]:
    """The negated log of the share that a softmax gives to what is right."""
    return column.logsumexp(0) - column[is_right].logsumexp(0)


def _pair_loss(
    column: Float[Tensor, " texts"], wanted: Tensor, odd: Tensor | None = None
) -> Float[Tensor, ""]:
    """Binary cross-entropy, in which the few of a list weigh as much as three of the many."""
    few = wanted if odd is None else odd
    weight = torch.where(few, 3.0, 1.0)
    losses = functional.binary_cross_entropy_with_logits(column, wanted.float(), weight, reduction="sum")
    return losses / weight.sum()
