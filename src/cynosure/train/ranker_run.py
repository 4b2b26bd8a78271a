"""Make a ranker from a machine's documentation, from data to card. Knows nothing of terminals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from cynosure.core.errors import InputError
from cynosure.models.cross_encoder import load_cross_encoder
from cynosure.models.minilm import load_minilm
from cynosure.models.minilm_package import minilm_folder
from cynosure.retrieval import read_python_docs
from cynosure.train.loop import Report, silent
from cynosure.train.loss_plot import write_losses
from cynosure.train.pair_batches import PairReader
from cynosure.train.pair_builder import PairRecipe, build_pairs
from cynosure.train.pair_encoder import PairEncoder, PairShape
from cynosure.train.pairs import PairData, read_pairs
from cynosure.train.ranker import RankerRecipe, logits_of, new_ranker, train_ranker
from cynosure.train.ranker_check import Judge, measure
from cynosure.train.ranker_files import RankerRun, write_card, write_checkpoint_folder

#: Questions of each kind that a check in the middle of a run asks, and those that are asked at the end.
MAX_CHECKED, MAX_MEASURED = 20, 100

#: What a run that was cut off is found again by; gone when it is done.
TRAINING = "training"


def make_ranker(
    out: Path,
    recipe: RankerRecipe,
    reference: Path | None = None,
    is_resumed: bool = False,
    report: Report = silent,
) -> RankerRun:
    """Train a ranker into the new folder `out`; from the first check on it holds a ranker that loads.

    Args:
        out: A folder to be made, or with `is_resumed` that of a run that was cut off.
        recipe: How it is trained.
        reference: Where Python's reference documentation lies; docstrings alone by default.
        is_resumed: Whether to go on with the data and the recipe of that run.
        report: Told stages.

    Raises:
        InputError: `out` exists, or is resumed and holds no run, or one of another recipe.
        MissingPackage: The embedder is not installed.
    """
    _claim(out, recipe, is_resumed)
    start = minilm_folder()
    kept = out / TRAINING / "pairs.jsonl"
    if not kept.is_file():
        report("Reading the documentation", 0, 0)
        documentation = read_python_docs(reference=reference)
        data = build_pairs(documentation, load_minilm(), PairRecipe(recipe.seed), out / TRAINING, report)
        data.write(kept)
    data = read_pairs(kept)
    return _train(out, start, data, recipe, report)


def _train(out: Path, start: Path, data: PairData, recipe: RankerRecipe, report: Report) -> RankerRun:
    encoder = new_ranker(start, recipe, PairShape())
    reader = PairReader(start, recipe.max_tokens)

    def check(step: int) -> float:
        write_checkpoint_folder(out, encoder, start)
        return measure(data, twin_judge(encoder, reader, recipe.is_mixed), MAX_CHECKED).mrr

    checkpoint = out / TRAINING / "run.safetensors"
    fitted = train_ranker(encoder, data, reader, recipe, checkpoint, report, check)
    report("Asking what is held out", 0, 0)
    write_checkpoint_folder(out, encoder, start)
    run = RankerRun(recipe, data, fitted, measure(data, served_judge(out), MAX_MEASURED))
    write_losses(out, fitted, "loss of lists and pairs")
    write_card(out, run)
    shutil.rmtree(out / TRAINING)
    return run


def twin_judge(encoder: PairEncoder, reader: PairReader, is_mixed: bool) -> Judge:
    """Judge with what is being trained."""

    @torch.inference_mode()
    def judge(pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs labels"]:
        device = encoder.classifier.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
            return logits_of(encoder, reader, pairs).cpu().numpy()

    return judge


def served_judge(folder: Path, quantize: str | None = None) -> Judge:
    """Judge with what was written, as it is served."""
    model = load_cross_encoder(folder, dtype="auto", quantize=quantize)

    def judge(pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "pairs labels"]:
        return model.run(model.read(list(pairs)))

    return judge


def _claim(out: Path, recipe: RankerRecipe, is_resumed: bool) -> None:
    """Make the folder, or find in it the run that goes on."""
    settings = out / TRAINING / "recipe.json"
    told = json.dumps(asdict(recipe), indent=2) + "\n"
    if not is_resumed:
        if out.exists():
            raise InputError(
                f"{out} exists; nothing is overwritten. Name a folder that does not exist, or go on with "
                "the run that it holds (--resume)."
            )
        settings.parent.mkdir(parents=True)
        settings.write_text(told)
    elif not settings.is_file():
        raise InputError(f"{out} holds no run that was cut off. Leave --resume out, and name a new folder.")
    elif settings.read_text() != told:
        raise InputError(
            f"{out} holds a run of another recipe. Give the options that it was begun with: {settings} "
            "has them."
        )
