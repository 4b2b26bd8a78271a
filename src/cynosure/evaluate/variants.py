"""Compare the ways in which a checkpoint can be kept in memory, by perplexity. Knows nothing of terminals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import EmptyInput, UnknownOption, UnsupportedConfig
from cynosure.evaluate.perplexity import Perplexity, perplexity
from cynosure.models.load import LanguageModel, load
from cynosure.models.quantize import SCHEMES

KV_INT8 = "kv-int8"


@dataclass(frozen=True)
class Variant:
    """One way: the code of weights, and what keys and values are kept in."""

    name: str
    quantize: str | None = None
    kv_cache_dtype: str = "auto"


@dataclass(frozen=True)
class Question:
    """What is measured: a checkpoint, computed in `dtype`, on a text cut into windows."""

    source: str | Path
    text: str
    dtype: str = "auto"
    window: int | None = None
    stride: int | None = None
    max_tokens: int | None = None


@dataclass(frozen=True)
class Measured:
    """The perplexity of one variant."""

    variant: Variant
    perplexity: Perplexity


#: Told the variant, and how many windows of how many are done.
Report = Callable[[str, int, int], None]


def variant_of(name: str) -> Variant:
    """Return a variant by its name: a scheme of weights, `kv-int8`, or both as in `int8+kv-int8`.

    Raises:
        UnknownOption: there is none.
    """
    weights, _, cache = ("", "", name) if name == KV_INT8 else name.partition("+")
    known = [*SCHEMES, KV_INT8, *(f"{scheme}+{KV_INT8}" for scheme in SCHEMES)]
    if name not in known:
        raise UnknownOption(f"nothing can be compared with {name!r}; choose of {', '.join(known)}.")
    return Variant(name, weights or None, "int8" if cache else "auto")


def compare(
    question: Question, variants: Sequence[Variant], report: Report = lambda name, done, total: None
) -> list[Measured]:
    """Return the perplexity of the checkpoint as it is, then of each variant, on the same tokens.

    Raises:
        CheckpointError: the checkpoint can't be loaded, or has no tokenizer.
        InputError: the text or the windows can't be used.
    """
    measured: list[Measured] = []
    model: LanguageModel | None = None
    for variant in [Variant("baseline"), *variants]:
        if model is None or variant.quantize is not None or model.scheme is not None:
            model = None  # two models at once would not fit where one does
            model = load(question.source, dtype=question.dtype, quantize=variant.quantize)
        found = perplexity(
            model,
            _tokens(model, question),
            window=question.window,
            stride=question.stride,
            kv_cache_dtype=variant.kv_cache_dtype,
            report=lambda done, total, name=variant.name: report(name, done, total),
        )
        measured.append(Measured(variant, found))
    return measured


def _tokens(model: LanguageModel, question: Question) -> tuple[int, ...]:
    if model.tokenizer is None:
        raise UnsupportedConfig(f"{model.folder} has no tokenizer.json, so that no text can be read. Add it.")
    if not question.text:
        raise EmptyInput("the text is empty; there is nothing to predict. Give some.")
    return model.tokenizer.encode(question.text).ids[: question.max_tokens]
