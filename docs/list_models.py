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

import torch

from cynosure.attention import AttentionSpec, Gate, Sink
from cynosure.attention.masks import And, Blocks, Causal, Chunk, Full, Mask, Or, Window
from cynosure.attention.positions import Alibi, Disentangled, MRope, NoPosition, Rope, T5Bias
from cynosure.evaluate.figures import fill_figures
from cynosure.models.brand import Brand
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.denoise.autoencoder_spec import AutoencoderSpec
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.denoise.unet_spec import UNetSpec
from cynosure.models.differential_attention import DifferentialSpec
from cynosure.models.encoder_decoder_spec import (
    BlockSums,
    EncoderDecoderSpec,
    FeatureInputSpec,
    GlobalFirst,
    GlobalTokens,
    TokenInputSpec,
)
from cynosure.models.encoder_spec import EncoderSpec
from cynosure.models.families.table import BRANDS
from cynosure.models.gated_delta import GatedDeltaSpec
from cynosure.models.grid_vision_spec import GridDecoderSpec
from cynosure.models.image_decoder_spec import ImageDecoderSpec
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.moe import MoeSpec
from cynosure.models.real_gated import RealGatedSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttentionSpec
from cynosure.models.state_space import StateSpaceSpec
from cynosure.models.tiled_vision_spec import TiledDecoderSpec
from cynosure.models.vision_spec import ImagePooling, ImageTextSpec, TextTowerSpec, VisionSpec

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
#: The modules that list tiny checkpoints.
CASES = (
    "decoder_cases",
    "brand_cases",
    "moe_oracle",
    "mixer_cases",
    "encoder_cases",
    "vision_cases",
    "image_decoder_cases",
    "grid_decoder_cases",
    "tiled_decoder_cases",
    "seq2seq_cases",
)
#: The same of what diffusers has, whose configs are as the cases say them.
DENOISE_CASES = "tests.models.denoise.denoise_cases"
#: Names of one architecture: the second is that of its authors' files.
OTHER_NAMES = {
    "MPTForCausalLM": "MptForCausalLM",
    "Gemma3nForConditionalGeneration": "Gemma3nForCausalLM",
    "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
    "Mistral3ForConditionalGeneration": "Ministral3ForCausalLM",
}
#: Architectures of which the half for texts is served.
TEXTS_ALONE = (
    "Gemma3nForConditionalGeneration",
    "Llama4ForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
)

#: An architecture that transformers does not have, and one whose config and graph are the same.
SPECS_OF = {"HF_ColBERT": "BertModel"}

#: What stands in an architecture's name behind the word that its config begins with.
SUFFIX = re.compile(r"(?:For\w+|LMHeadModel|EncoderModel|Model(?:WithProjection)?)$")
CONFIGS = {
    "Gemma3ForCausalLM": "Gemma3TextConfig",
    "Gemma3nForCausalLM": "Gemma3nTextConfig",
    "Llama4ForCausalLM": "Llama4TextConfig",
    "MarianMTModel": "MarianConfig",
}

#: What gives an image one vector; the class token goes without saying.
_IMAGE_POOLING: dict[ImagePooling, list[str]] = {
    **{pooling: [] for pooling in ImagePooling},
    ImagePooling.PROBE: ["pooled by a query of its own"],
}

HEAD = """# Models

Every architecture that is loaded, by the name in its `config.json`; images reach models in
[Python](vision.md), where [denoisers and autoencoders](denoisers.md) are too; all else is served. Any other
is refused by name; so is a key of the config that would change the maths and is not read. The right column
is the largest difference of a logit from `transformers` in float32, relative to the largest logit where
that exceeds 1, on tiny random checkpoints: alone, packed and padded; decoders also token by token, in
chunks, and through the engine or the plain loop (`python evals/parity.py`). For denoisers and autoencoders
it is that of any number from `diffusers`. This page is written by `make docs`; [how a model is
added](adding-a-model.md) says what a row owes.

Memory is what a sequence keeps as its context grows. What keeps *all* grows with it, a *window* or a chunk is
bounded, a *state* is of one size; how many bytes that is, is [measured](performance.md#memory-by-context).

"""


COST = "What a brand costs, in lines that are not blank. A file reads configs and names tensors, no more."


def specs() -> dict[str, Any]:
    """Return the spec of a tiny checkpoint of each architecture."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    transformers = importlib.import_module("transformers")
    given: dict[str, dict[str, object]] = {"T5ForConditionalGeneration": {}}
    given |= {f"{name}EncoderModel": {} for name in ("T5", "UMT5", "LongT5")}
    for module in CASES:
        for case in vars(importlib.import_module(f"tests.models.{module}"))["CASES"].values():
            given.setdefault(case.architecture, case.settings)
    found = {}
    for name, values in given.items():
        config = getattr(transformers, CONFIGS.get(name, f"{SUFFIX.sub('', name)}Config"))(**deepcopy(values))
        found[name] = BRANDS[name].parse(ConfigReader(json.loads(config.to_json_string(use_diff=False))))
    for case in vars(importlib.import_module(DENOISE_CASES))["CASES"].values():
        found.setdefault(case.architecture, BRANDS[case.architecture].parse(ConfigReader(case.settings)))
    return found


#: A name that two graphs have, of which one spec would tell half.
_TOLD = {"Transformer2DModel": "the first form of the two other transformers, told apart by `norm_type`"}


def describe(spec: object) -> str:
    """Say in a few words what a model attends with, and how its layers are built."""
    match spec:
        case DecoderSpec():
            return ", ".join(dict.fromkeys(_decoder_words(spec)))
        case EncoderSpec():
            blocks = [layer.attention for layer in spec.layers]
            learned = ["learned positions"] if spec.embeddings.num_positions else []
            return ", ".join([*_seen(spec), *learned, *_positions(blocks)])
        case EncoderDecoderSpec():
            return ", ".join(_two_sided_words(spec))
        case VisionSpec():
            return ", ".join(["every patch sees all", "learned positions", *_IMAGE_POOLING[spec.pooling]])
        case TextTowerSpec():
            return describe(spec.encoder)
        case ImageTextSpec():
            return f"images: {describe(spec.image)}; texts: {describe(spec.text.encoder)}"
        case GridDecoderSpec():
            images = "every patch sees all, rotary by row and column, any size"
            return f"images: {images}; texts: {describe(spec.text)}"
        case TiledDecoderSpec():
            images = "every patch of all tiles sees all, learned positions, then gated layers"
            return f"images: {images}; texts: {describe(spec.text)}, gated layers that attend to images"
        case ImageDecoderSpec():
            return f"images: {describe(spec.image)}; texts: {describe(spec.text)}"
        case TransformerSpec():
            told = "a timestep and a class" if spec.text_width is None else "a timestep; attends to a text"
            return f"every patch of latents sees all, waves of row and column, modulated by {told}"
        case UNetSpec():
            return "convolutions; at some resolutions every place sees all and attends to a text"
        case AutoencoderSpec():
            return "convolutions; at the smallest resolution every place sees all"
    raise AssertionError(f"{type(spec).__name__} is described nowhere")


#: What carries a state from token to token.
_MIXERS = {
    StateSpaceSpec: "a state space (Mamba-2)",
    GatedDeltaSpec: "the gated delta rule",
    RealGatedSpec: "a gated recurrence (RG-LRU)",
}


def _decoder_words(spec: DecoderSpec) -> Iterator[str]:
    blocks = [layer.attention for layer in spec.layers]
    mixers = [_MIXERS[type(block)] for block in blocks if type(block) in _MIXERS]
    if mixers:
        yield f"{mixers[0]} in every layer" if len(mixers) == len(blocks) else f"{mixers[0]} in most layers"
    latent = [block for block in blocks if isinstance(block, MlaSpec)]
    if latent:
        yield "latent (MLA)"
        yield "rotary"
    if any(block.indexer is not None for block in latent):
        yield "tokens chosen by an indexer"
    if any(isinstance(block, DifferentialSpec) for block in blocks):
        yield "differences of heads"
    plain = [block for block in blocks if isinstance(block, SelfAttentionSpec)]
    shared = [block for block in blocks if isinstance(block, DifferentialSpec | SharedAttentionSpec)]
    attentions = [block.attention for block in (*plain, *shared)]
    yield from _heads(attentions)
    yield from _windows([attention.mask for attention in attentions])
    if any(isinstance(block, SharedAttentionSpec) for block in blocks):
        yield "keys of earlier layers in some"
    if spec.num_positions is not None:
        yield "learned positions"
    yield from _positions(attentions)
    if any(attention.sink is Sink.LEARNED for attention in attentions):
        yield "learned sinks"
    if any(attention.score.softcap is not None for attention in attentions):
        yield "capped scores"
    if any(isinstance(attention.combination, Gate) for attention in attentions):
        yield "gated"
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
    if spec.altup is not None:
        yield "several vectors a token"


#: What an encoder's tokens attend to beyond their neighbourhood.
_FAR = {
    BlockSums: "sums of blocks",
    GlobalTokens: "learned global tokens",
    GlobalFirst: "the first token global",
}


def kept(spec: object) -> str:
    """Say what a sequence keeps of its context."""
    match spec:
        case DecoderSpec():
            with torch.device("meta"):
                graph = Decoder(spec)
            shapes = [shape for shape in graph.cache_shapes if shape.num_kv_heads]
            have = {
                "a state": any(graph.state_shapes),
                "windows": any(shape.window is not None for shape in shapes),
                "all": any(shape.window is None for shape in shapes),
            }
            words = [word for word, is_kept in have.items() if is_kept]
            return ", and in some layers ".join(words)
        case ImageDecoderSpec() | GridDecoderSpec():
            return kept(spec.text)
        case TiledDecoderSpec():
            return f"{kept(spec.text)}; of an image, once"
        case EncoderDecoderSpec() if spec.decoder is not None:
            return "all of the answer; of the input, once"
    return "nothing"


def _two_sided_words(spec: EncoderDecoderSpec) -> Iterator[str]:
    encoder, decoder = spec.encoder, spec.decoder
    if isinstance(encoder.inputs, FeatureInputSpec):
        yield "reads features"
    masks = [layer.mask for layer in encoder.layers]
    if not all(isinstance(mask, Full) for mask in masks):
        yield "an encoder of blocks" if isinstance(masks[0], Chunk) else "an encoder of windows"
    if encoder.far is not None:
        yield _FAR[type(encoder.far)]
    own = (decoder or encoder).inputs
    if isinstance(own, TokenInputSpec) and own.num_positions is not None:
        yield "rows of positions"
    yield from _positions([*encoder.layers, *(decoder.layers if decoder else ())])
    if decoder is not None:
        yield "cross-attention"


def _seen(spec: EncoderSpec) -> Iterator[str]:
    """Say what a token of an encoder sees."""
    masks = [layer.attention.mask for layer in spec.layers]
    parts = [part for mask in masks for part in (mask.masks if isinstance(mask, Or) else [mask])]
    if all(isinstance(part, Full) for part in parts):
        yield "every token sees all"
    elif any(isinstance(part, Blocks) for part in parts):
        yield "neighbouring blocks and both ends in long texts"
    elif any(isinstance(part, Causal) for part in parts):
        yield "a token sees those before it"
    else:
        yield "windows in some layers" if any(isinstance(part, Full) for part in parts) else "windows"
    if any(layer.num_global for layer in spec.layers):
        yield "the first token and all others see each other"


def _heads(attentions: Sequence[AttentionSpec]) -> Iterator[str]:
    for attention in attentions[:1]:
        num_heads, num_kv_heads = attention.heads.num_heads, attention.heads.num_kv_heads
        few = "one head of keys (MQA)" if num_kv_heads == 1 else "grouped heads (GQA)"
        yield "multi-head" if num_heads == num_kv_heads else few


def _windows(masks: Sequence[Mask]) -> Iterator[str]:
    for kind, name in ((Window, "windows"), (Chunk, "chunks")):
        have = [_has(kind, mask) for mask in masks]
        if any(have):
            yield name if all(have) else f"{name} in some layers"


def _has(kind: type[Mask], mask: Mask) -> bool:
    return any(_has(kind, part) for part in mask.masks) if isinstance(mask, And) else isinstance(mask, kind)


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
    if MRope in kinds:
        yield "rotary by time, row and column"
    if Alibi in kinds:
        yield "ALiBi"
    if Disentangled in kinds:
        yield "tokens compared with distances"
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
    rows = ["| Architecture | Attention | Memory | Largest difference |", "| --- | --- | --- | ---: |"]
    found = specs()
    for name in BRANDS:
        measured = OTHER_NAMES.get(name, name)
        figure = f"<!-- figure: parity.{measured} .1e --><!-- /figure -->"
        spec = found[SPECS_OF.get(measured, measured)]
        told = _TOLD.get(name) or describe(spec)
        told += "; texts alone" if name in TEXTS_ALONE else ""
        rows.append(f"| {name} | {told} | {kept(spec)} | {figure} |")
    costs = ["| File of `models/families` | Architectures | Lines |", "| --- | ---: | ---: |", *cost()]
    text = HEAD + "\n".join(rows) + f"\n\n{COST}\n\n" + "\n".join(costs) + "\n"
    return fill_figures(text, ROOT / "results")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
