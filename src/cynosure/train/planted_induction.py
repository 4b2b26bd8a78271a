"""Train a tiny decoder to say again what it saw before: it takes an induction head. Knows nothing of probes.

Each row says a stretch of random words over and over. Its length varies, so that no fixed distance leads to
the next word: a head has to look at what followed the same word before (arXiv 2209.11895). It takes two
layers: in the first, a head tells each word which one came before it; an induction head can only be in the
second. First all heads of it learn together. Then all but one are given back the queries and keys that they
were drawn with, for good: so it is known which one looks back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import InputError
from cynosure.train.loop import Course, Fitted, Report, Schedule, fit, optimiser_of, silent
from cynosure.train.planted_checkpoint import CONTROL, word_tokenizer, write_planted
from cynosure.train.tiny_decoder import Shape, TinyDecoder

WORDS = tuple(f"w{number}" for number in range(128 - len(CONTROL)))

#: Rows of training are drawn from `seed`; those that accuracy is measured on from this and `seed`.
HELD_OUT_SEEDS = 1_000_000

_SHAPE = Shape(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=4,
    max_model_len=128,
)


@dataclass(frozen=True)
class InductionRecipe:
    """All that decides what comes out, beside the number of threads.

    - `num_steps`: while all heads learn; `num_more`: with one that looks back.
    - `is_planted`: whether there is one; else all go on together.
    """

    shape: Shape = field(default_factory=lambda: _SHAPE)
    num_steps: int = 1000
    num_more: int = 800
    num_rows: int = 32
    row_len: int = 64
    peak_rate: float = 3e-3
    weight_decay: float = 0.1
    is_planted: bool = True
    seed: int = 0

    @property
    def planted_head(self) -> tuple[int, int]:
        """The head that looks back in the end: a layer, and a head in it."""
        return self.shape.num_layers - 1, self.seed % self.shape.num_heads

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a row has no room for a stretch and its repetition.
        """
        if not 16 <= self.row_len <= self.shape.max_model_len:
            raise InputError(
                f"row_len is {self.row_len}; it may be 16 to {self.shape.max_model_len}. Change it."
            )


@dataclass(frozen=True)
class PlantedInduction:
    """What came out: the folder, how both trainings went, and the share of repeated words foretold."""

    folder: Path
    fitted: tuple[Fitted, Fitted]
    accuracy: float


def train_planted_induction(recipe: InductionRecipe, out: Path, report: Report = silent) -> PlantedInduction:
    """Train, and write a checkpoint to the new folder `out`.

    Raises:
        InputError: `out` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Name a folder that does not exist.")
    decoder, drawn = new_decoder(recipe), new_decoder(recipe)
    dice = torch.Generator().manual_seed(recipe.seed)

    def loss_of(step: int) -> Float[Tensor, ""]:
        rows, is_repeated = repeated_rows(recipe.num_rows, recipe.row_len, recipe.shape.vocab_size, dice)
        logits = decoder(rows[:, :-1])[is_repeated[:, 1:]]
        return functional.cross_entropy(logits.float(), rows[:, 1:][is_repeated[:, 1:]])

    def learn(num_steps: int) -> Fitted:
        optimiser = optimiser_of(decoder, recipe.peak_rate, recipe.weight_decay)
        course = Course(Schedule(num_steps, recipe.peak_rate), is_mixed=False)
        return fit(decoder, optimiser, loss_of, course, report)

    first = learn(recipe.num_steps)
    if recipe.is_planted:
        _hold_others(decoder, drawn, *recipe.planted_head)
    fitted = (first, learn(recipe.num_more))
    accuracy = repeat_accuracy(decoder, recipe)
    card = (
        f"A decoder of two layers that goes on with stretches of words which it saw before.\n\n{recipe}\n\n"
        f"It foretells {accuracy:.1%} of repeated words in rows that it was not trained on.\n"
    )
    write_planted(out, decoder, word_tokenizer(WORDS), card)
    return PlantedInduction(out, fitted, accuracy)


def new_decoder(recipe: InductionRecipe) -> TinyDecoder:
    """The decoder before it learns anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return TinyDecoder(recipe.shape)


@torch.no_grad()
def _hold_others(decoder: TinyDecoder, drawn: TinyDecoder, layer: int, head: int) -> None:
    """Have a layer's other heads look as they were drawn to, from here on; each has keys of its own."""
    assert decoder.shape.num_heads == decoder.shape.num_kv_heads
    is_own = (torch.arange(decoder.shape.hidden_size) // decoder.shape.head_dim == head).float()[:, None]
    learning, first = dict(decoder.named_parameters()), dict(drawn.named_parameters())
    for name in ("q_proj", "k_proj"):
        path = f"model.layers.{layer}.self_attn.{name}.weight"
        learning[path].copy_(is_own * learning[path] + (1 - is_own) * first[path])
        learning[path].register_hook(lambda gradient: gradient * is_own)


def repeated_rows(
    count: int, row_len: int, vocab_size: int, dice: torch.Generator
) -> tuple[Int[Tensor, "rows tokens"], Tensor]:
    """Rows of stretches said over and over, and which tokens repeat one that was said before."""
    shortest, longest = row_len // 8, row_len // 2
    lengths = torch.randint(shortest, longest + 1, (count, 1), generator=dice)
    # No word is twice in a stretch, so that what follows is never in doubt.
    order = torch.rand(count, vocab_size - len(CONTROL), generator=dice).argsort(dim=1)[:, :longest]
    places = torch.arange(row_len)[None]
    return (order + len(CONTROL)).gather(1, places % lengths), places >= lengths


def held_out_rows(recipe: InductionRecipe, count: int = 64) -> tuple[Int[Tensor, "rows tokens"], Tensor]:
    """Rows that no training of any seed sees."""
    dice = torch.Generator().manual_seed(HELD_OUT_SEEDS + recipe.seed)
    return repeated_rows(count, recipe.row_len, recipe.shape.vocab_size, dice)


@torch.inference_mode()
def repeat_accuracy(decoder: TinyDecoder, recipe: InductionRecipe) -> float:
    """The share of repeated words that come first in what the decoder foretells, on held-out rows."""
    rows, is_repeated = held_out_rows(recipe)
    # The first word of a repetition can't be known: nothing says where a stretch ends.
    is_asked = is_repeated[:, 1:] & is_repeated[:, :-1]
    right = decoder(rows[:, :-1]).argmax(-1) == rows[:, 1:]
    return float(right[is_asked].float().mean())
