"""Write what a packed code model was made from and what it reaches: recipe and card. Measures nothing.

The card states only what files say: `recipe.json`, written by the training, and figures of the evaluation.
Where a baseline is better the model's standing is "demonstration", in both.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cynosure.train.code_corpus import HELD_OUT_MODULES, CodeCorpus
from cynosure.train.core_lm import CoreRecipe, CoreTrained
from cynosure.train.loss_plot import write_losses

RECIPE, CARD = "recipe.json", "README.md"
DEMONSTRATION, USEFUL = "demonstration", "useful"
#: Rows of the card: what is measured, and the prefix of its keys in results/code.json.
RIVALS: Mapping[str, str] = {
    "core-lm": "",
    "n-gram cache": "ngram_",
    "nearest line": "copy_",
    "jedi": "jedi_",
}
FIGURES: Mapping[str, str] = {
    "exact_match": "exact match",
    "edit_similarity": "edit similarity",
    "names_exist": "names that exist",
    "tests_pass": "tests pass",
}


_STANDING: Mapping[str, str] = {
    DEMONSTRATION: "**A demonstration**: it shows fill-in-the-middle at work. For more, take a larger model.",
    USEFUL: "Its proposals are better than those of the baselines below. Read what it writes all the same.",
}
_CARD = """\
# core-lm

A decoder of {num_parameters:,} parameters for Python, trained from nothing by `{command}`: half of
what it read had a gap to fill. It completes lines: `/v1/completions` with `suffix`, and
`cynosure complete FILE:LINE`.

{standing}

## Figures

Held-out modules: {held_out_loss} nats a token, {held_out_bits_a_byte} bits a byte.
{figures}
## Training

{num_steps:,} steps in {minutes} minutes on {threads} threads: {tokens_seen:,} tokens, of {tokens_a_pass:,}
that the corpus has. Muon for matrices, AdamW for the rest, bfloat16 products, a cosine rate (`recipe.json`,
`loss.svg`). Gaps lie between any two characters; a quarter of them are in the order suffix, prefix, middle.
A tenth of the tokens are conversations from templates: quotes from docstrings, calls of functions, questions
about logs and tables. They teach forms; do not expect answers.

## Data

The standard library of Python {python} ({corpus_library_megabytes} MB, PSF-2.0), its tests
({corpus_tests_megabytes} MB) and a part of each package below: {corpus_megabytes} MB in {corpus_files:,}
files, SHA-256 `{data_sha256}`. A package's licence is what its metadata declares; one
that declares none, or asks for more than a notice, was left out.

Held out with their tests: {modules}. {corpus_dropped_for_overlap} files that share 13 tokens in a row with
them, boilerplate apart, were dropped.

| package | version | licence |
|---|---|---|
{packages}
"""


def write_recipe(corpus: CodeCorpus, recipe: CoreRecipe, trained: CoreTrained) -> None:
    """Write `recipe.json`, the plot of the loss, and a card without figures of tasks."""
    fitted = trained.fitted
    told = {
        "name": "core-lm",
        "standing": DEMONSTRATION,
        "command": "cynosure train core-lm --out FOLDER",
        "seed": recipe.seed,
        "data_sha256": corpus.digest,
        "recipe": asdict(recipe),
        "num_parameters": trained.num_parameters,
        "num_steps": fitted.num_steps,
        "minutes": round(fitted.seconds / 60, 1),
        "threads": torch.get_num_threads(),
        "tokens_a_pass": trained.num_tokens,
        "tokens_seen": fitted.num_steps * recipe.num_seqs * recipe.shape.max_model_len,
        "train_loss": round(fitted.last_loss, 4),
        "watched_loss": round(fitted.checks[-1][1], 4) if fitted.checks else None,
        "held_out_loss": round(trained.held_out_loss, 4),
        "held_out_bits_a_byte": round(trained.held_out_bits, 4),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "tokenizers", "numpy")},
        },
        "corpus": _corpus(corpus),
    }
    (trained.folder / RECIPE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    write_losses(trained.folder, fitted, "nats a token")
    write_card(trained.folder)


def write_card(folder: Path, figures: Mapping[str, Any] | None = None) -> None:
    """Write the card from the recipe beside it and, where there are any, the figures of results/code.json.

    The standing follows from the figures: without them, or where a rival is better in one, the model is a
    demonstration.
    """
    told = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    told["standing"] = standing_of(figures or {})
    (folder / RECIPE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(told, figures or {}), encoding="utf-8")


def standing_of(figures: Mapping[str, Any]) -> str:
    """`useful` where no rival has a better figure in what is proposed; else `demonstration`."""
    judged = ("exact_match", "edit_similarity", "tests_pass")
    for name in judged:
        own = figures.get(name)
        rivals = [figures.get(f"{prefix}{name}") for prefix in RIVALS.values() if prefix]
        if not isinstance(own, float) or any(isinstance(one, float) and one > own for one in rivals):
            return DEMONSTRATION
    return USEFUL


def _corpus(corpus: CodeCorpus) -> dict[str, Any]:
    return {
        "files": len(corpus.train),
        "megabytes": round(corpus.num_bytes() / 1e6, 1),
        "library_megabytes": round(corpus.num_bytes("library") / 1e6, 1),
        "tests_megabytes": round(corpus.num_bytes("tests") / 1e6, 1),
        "dropped_for_overlap": corpus.num_dropped,
        "held_out_modules": list(HELD_OUT_MODULES),
        "packages": [
            {"name": one.name, "version": one.version, "licence": one.licence} for one in corpus.packages
        ],
    }


def _card(told: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    corpus = told["corpus"]
    packages = [f"| {one['name']} | {one['version']} | {one['licence']} |" for one in corpus["packages"]]
    values = {
        **told,
        **{f"corpus_{name}": value for name, value in corpus.items()},
        "modules": ", ".join(corpus["held_out_modules"]),
        "python": told["versions"]["python"],
        "packages": "\n".join(packages),
        "standing": _STANDING[told["standing"]],
        "figures": _figures(figures),
    }
    return _CARD.format_map(values)


def _figures(figures: Mapping[str, Any]) -> str:
    shown = {key: told for key, told in FIGURES.items() if isinstance(figures.get(key), float)}
    if not shown:
        return "\nTasks were not measured: `python -m evals.code` does.\n"
    head = "| masked lines of held-out modules | " + " | ".join(shown.values()) + " |"
    lines = [head, "|---|" + "---|" * len(shown)]
    for label, prefix in RIVALS.items():
        cells = [figures.get(f"{prefix}{key}") for key in shown]
        shares = [f"{cell:.3f}" if isinstance(cell, float) else "" for cell in cells]
        lines.append(f"| {label} | " + " | ".join(shares) + " |")
    return (
        "\n"
        + "\n".join(lines)
        + "\n\nBy `python -m evals.code --write`; `results/code.json` has all of them.\n"
    )
