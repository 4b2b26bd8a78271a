"""Train a small decoder to answer from documents, or to own that they do not tell. Serves nothing.

It finds a value by the name and the key that stand before it: what a head does that retrieves, learned in
minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.train.loop import Course, Fitted, Report, Schedule, fit, optimiser_of, silent
from cynosure.train.planted_checkpoint import CONTROL, word_tokenizer, write_planted
from cynosure.train.planted_documents import KINDS, REGIMES, VALIDATION_SEEDS, prompts
from cynosure.train.planted_documents_language import World
from cynosure.train.planted_documents_rows import Exactness, RowMaker, exactness, loss_of_rows
from cynosure.train.tiny_decoder import Shape, TinyDecoder


def _shape() -> Shape:
    return Shape(
        vocab_size=len(CONTROL) + len(World.drawn().words),
        hidden_size=128,
        intermediate_size=256,
        num_layers=3,
        num_heads=4,
        num_kv_heads=4,
        max_model_len=1024,
    )


@dataclass(frozen=True)
class PlantedRecipe:
    """All that decides what comes out, beside the number of threads.

    A batch has `num_rows` rows of `num_asked` questions each; `num_checked` prompts of each kind and length
    say how well it learned.
    """

    shape: Shape = field(default_factory=_shape)
    num_steps: int = 2400
    num_rows: int = 24
    num_asked: int = 6
    peak_rate: float = 2e-3
    weight_decay: float = 0.02
    is_mixed: bool = False
    seed: int = 0
    num_checked: int = 200

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below 1.
        """
        for name in ("num_steps", "num_rows", "num_asked", "num_checked"):
            if vars(self)[name] < 1:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is 1. Raise it.")


@dataclass(frozen=True)
class PlantedModel:
    """What came out: the folder, the run, and the share of right answers by kind and length."""

    folder: Path
    fitted: Fitted
    exact: Mapping[str, Exactness]


def train_planted_documents(recipe: PlantedRecipe, out: Path, report: Report = silent) -> PlantedModel:
    """Train, and write a checkpoint to the new folder `out`.

    A run that was cut off goes on from the file beside `out`.

    Raises:
        InputError: `out` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Name a folder that does not exist.")
    tokenizer = word_tokenizer(World.drawn().words)
    maker = RowMaker(tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        decoder = TinyDecoder(recipe.shape)

    def loss_of(step: int) -> Float[Tensor, ""]:
        seed = recipe.seed * 1_000_000 + step
        ids, weights = maker.batch(seed, step / recipe.num_steps, recipe.num_rows, recipe.num_asked)
        return loss_of_rows(decoder, ids, weights)

    unfinished = out.with_name(f"{out.name}.unfinished")
    course = Course(Schedule(recipe.num_steps, recipe.peak_rate), recipe.is_mixed, unfinished)
    optimiser = optimiser_of(decoder, recipe.peak_rate, recipe.weight_decay)
    fitted = fit(decoder, optimiser, loss_of, course, report)
    exact = exactness_by_kind(decoder, maker, recipe.num_checked)
    write_planted(out, decoder, tokenizer, _card(recipe, fitted, exact))
    unfinished.unlink(missing_ok=True)
    return PlantedModel(out, fitted, exact)


def exactness_by_kind(decoder: TinyDecoder, maker: RowMaker, num_prompts: int) -> dict[str, Exactness]:
    """The share of right answers on validation prompts; made-up ones have none that is right."""
    told = {}
    for regime in REGIMES:
        for kind in KINDS:
            drawn = prompts(VALIDATION_SEEDS[: 3 * num_prompts], [kind], regimes=[regime])
            fair = [one for one in drawn if one.kind != "unanswerable" or one.asked[0].is_unknown]
            told[f"{kind}, {regime}"] = exactness(decoder, maker, fair[:num_prompts])
    return told


def _card(recipe: PlantedRecipe, fitted: Fitted, exact: Mapping[str, Exactness]) -> str:
    rows = "".join(f"| {name} | {one.exact:.3f} | {one.num_prompts} |\n" for name, one in exact.items())
    return (
        "# Planted documents\n\nA decoder that answers questions about made-up documents, trained by "
        f"`cynosure train planted-documents`: a model whose right citations are known.\n\n{recipe}\n\n"
        f"{fitted.num_steps} steps, {fitted.last_loss:.4f} nats a token at the end.\n\n"
        f"| validation prompts | exact answers | prompts |\n|---|---|---|\n{rows}"
    )
