"""A documentation of 60 small objects, with phrases. Knows nothing of models."""

from __future__ import annotations

from pathlib import Path

from cynosure.retrieval import Documentation, Entry
from cynosure.train.loop import silent
from cynosure.train.pair_builder import PairRecipe, build_pairs
from cynosure.train.pairs import PairData
from tests.retrieval.fakes import BagOfWords

VERBS = ("merge", "split", "count", "sort", "fold")
NOUNS = (
    "stars", "sails", "ropes", "maps", "oars", "masts", "nets", "buoys", "reefs", "tides", "winds", "ports",
)  # fmt: skip


def documentation() -> Documentation:
    entries, asked = [], {}
    for noun in NOUNS:
        for verb in VERBS:
            doc = (
                f"Return all {noun} after one {verb} of them.\n\n"
                f"The {noun} are read from the left. A {verb} keeps what is equal in its order. "
                f"Nothing is written to the disk by a {verb} of {noun}."
            )
            entries.append(Entry(f"{noun}.{verb}", "function", noun, f"({noun}, key=None)", doc))
            asked[f"{noun}.{verb}"] = (f"I have {noun} and need a {verb}",)
    return Documentation("small", tuple(entries), {}, asked)


def small_recipe(seed: int = 0) -> PairRecipe:
    return PairRecipe(seed, max_made=60, max_unanswerable=40)


def small_pairs(folder: Path, seed: int = 0) -> PairData:
    folder.mkdir(exist_ok=True)
    return build_pairs(documentation(), BagOfWords(max_tokens=80), small_recipe(seed), folder, silent)
