"""Write the page of the models that are served, from the table of brands and from results/parity.json.

    python docs/list_models.py

What a row says of attention is read off the spec of the tiny checkpoint that the parity tests use, so that
it cannot say other than what runs. A test writes the page again and fails where it differs.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from cynosure.attention import AttentionSpec, Sink
from cynosure.attention.masks import And, Full, Mask, Window
from cynosure.attention.positions import Alibi, NoPosition, Rope, T5Bias
from cynosure.evaluate.figures import fill_figures
from cynosure.models.brand import Brand
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec
from cynosure.models.encoder_spec import EncoderSpec
from cynosure.models.families.table import BRANDS
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.moe import MoeSpec
from cynosure.models.self_attention import SelfAttentionSpec

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
#: The modules that list tiny checkpoints.
CASES = ("decoder_cases", "brand_cases", "moe_oracle", "encoder_cases")
#: Names of one architecture: the second is that of its authors' files.
OTHER_NAMES = {"MPTForCausalLM": "MptForCausalLM"}

#: What stands in an architecture's name behind the word that its config begins with.
SUFFIX = re.compile(r"(?:For\w+|LMHeadModel|EncoderModel|Model)$")
CONFIGS = {"Gemma3ForCausalLM": "Gemma3TextConfig"}

HEAD = """# Models

Every architecture that is served, by the name in its `config.json`. Any other is refused by name; so is a key
of the config that would change the maths and is not read. The right column is the largest difference of a
logit from `transformers` in float32, relative to the largest logit where that exceeds 1, on tiny random
checkpoints: alone, packed and padded; decoders also token by token, in chunks, and through the engine or the
plain loop (`python evals/parity.py`). This page is written by `make docs`; [how a model is
added](adding-a-model.md) says what a row owes.

"""


COST = "What a brand costs, in lines that are not blank. A file reads configs and names tensors, no more."


def specs() -> dict[str, Any]:
    """Return the spec of a tiny checkpoint of each architecture."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    transformers = importlib.import_module("transformers")
    given: dict[str, dict[str, object]] = {"T5ForConditionalGeneration": {}, "T5EncoderModel": {}}
    for module in CASES:
        for case in vars(importlib.import_module(f"tests.models.{module}"))["CASES"].values():
            given.setdefault(case.architecture, case.settings)
    found = {}
    for name, values in given.items():
        config = getattr(transformers, CONFIGS.get(name, f"{SUFFIX.sub('', name)}Config"))(**deepcopy(values))
        found[name] = BRANDS[name].parse(ConfigReader(json.loads(config.to_json_string(use_diff=False))))
    return found


def describe(spec: object) -> str:
    """Say in a few words what a model attends with, and how its layers are built."""
    match spec:
        case DecoderSpec():
            return ", ".join(dict.fromkeys(_decoder_words(spec)))
        case EncoderSpec():
            blocks = [layer.attention for layer in spec.layers]
            learned = ["learned positions"] if spec.embeddings.num_positions else []
            seen = "every token sees all" if _all_full(blocks) else "windows in some layers"
            return ", ".join([seen, *learned, *_positions(blocks)])
        case EncoderDecoderSpec():
            stacks = [spec.encoder] if spec.decoder is None else [spec.encoder, spec.decoder]
            cross = [] if spec.decoder is None else ["cross-attention"]
            return ", ".join([*_positions([stack.attention for stack in stacks]), *cross])
    raise AssertionError(f"{type(spec).__name__} is described nowhere")


def _decoder_words(spec: DecoderSpec) -> Iterator[str]:
    blocks = [layer.attention for layer in spec.layers]
    if any(isinstance(block, MlaSpec) for block in blocks):
        yield "latent (MLA)"
        yield "rotary"
    plain = [block for block in blocks if isinstance(block, SelfAttentionSpec)]
    attentions = [block.attention for block in plain]
    yield from _heads(attentions)
    yield from _windows([attention.mask for attention in attentions])
    if spec.num_positions is not None:
        yield "learned positions"
    yield from _positions(attentions)
    if any(attention.sink is Sink.LEARNED for attention in attentions):
        yield "learned sinks"
    if any(attention.score.softcap is not None for attention in attentions):
        yield "capped scores"
    for block in plain:
        if block.qk_norm is not None:
            yield "normalised queries and keys" + (", all heads together" if block.is_qk_norm_whole else "")
    first = spec.layers[0]
    if first.is_parallel:
        yield "parallel halves"
    if first.has_post_norms:
        yield "norms around each half" if first.has_pre_norms else "norms behind each half"
    if any(isinstance(layer.mlp, MoeSpec) for layer in spec.layers):
        yield "experts"


def _heads(attentions: Sequence[AttentionSpec]) -> Iterator[str]:
    for attention in attentions[:1]:
        num_heads, num_kv_heads = attention.heads.num_heads, attention.heads.num_kv_heads
        few = "one head of keys (MQA)" if num_kv_heads == 1 else "grouped heads (GQA)"
        yield "multi-head" if num_heads == num_kv_heads else few


def _windows(masks: Sequence[Mask]) -> Iterator[str]:
    have = [_has_window(mask) for mask in masks]
    if any(have):
        yield "windows" if all(have) else "windows in some layers"


def _has_window(mask: Mask) -> bool:
    return any(map(_has_window, mask.masks)) if isinstance(mask, And) else isinstance(mask, Window)


def _all_full(attentions: Sequence[AttentionSpec]) -> bool:
    return all(isinstance(attention.mask, Full) for attention in attentions)


def _positions(attentions: Sequence[AttentionSpec]) -> Iterator[str]:
    kinds = {type(attention.position) for attention in attentions}
    for attention in attentions:
        position = attention.position
        if isinstance(position, Rope):
            pairs = " of neighbouring channels" if position.is_interleaved else ""
            share = " in part of a head" if position.dim < attention.heads.head_dim else ""
            some = " in some layers" if NoPosition in kinds else ""
            yield f"rotary{pairs}{share}{some}"
            return
    if Alibi in kinds:
        yield "ALiBi"
    if T5Bias in kinds:
        yield "biases by distance"


def cost() -> Iterator[str]:
    """Yield a row for each file of a family: what it serves, and its lines that are not blank."""
    by_file: dict[Path, list[str]] = {}
    for brand in BRANDS.values():
        by_file.setdefault(_file_of(brand), []).append(brand.architecture)
    for path, names in sorted(by_file.items()):
        lines = sum(bool(line.strip()) for line in path.read_text(encoding="utf-8").splitlines())
        yield f"| `{path.name}` | {len(names)} | {lines} |"


def _file_of(brand: Brand) -> Path:
    parse = brand.parse.func if isinstance(brand.parse, partial) else brand.parse
    # The tests wrap every function, to check its shapes.
    return Path(inspect.getfile(inspect.unwrap(parse)))


def page() -> str:
    """Return the page as it must be."""
    rows = ["| Architecture | Attention | Largest difference |", "| --- | --- | ---: |"]
    found = specs()
    for name in BRANDS:
        measured = OTHER_NAMES.get(name, name)
        figure = f"<!-- figure: parity.{measured} .1e --><!-- /figure -->"
        rows.append(f"| {name} | {describe(found[measured])} | {figure} |")
    costs = ["| File of `models/families` | Architectures | Lines |", "| --- | ---: | ---: |", *cost()]
    text = HEAD + "\n".join(rows) + f"\n\n{COST}\n\n" + "\n".join(costs) + "\n"
    return fill_figures(text, ROOT / "results")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
