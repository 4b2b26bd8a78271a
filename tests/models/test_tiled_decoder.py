"""Each decoder that attends to tiles of images equals transformers' on the same files; broken ones do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.core.errors import CheckpointCorrupt, InputError, UnsupportedConfig
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.image_input import ImageInput
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from cynosure.models.tiled_decoder import TiledDecoder
from cynosure.models.tiled_vision_spec import TiledDecoderSpec
from tests.models.image_oracle import TOLERANCE, write
from tests.models.tiled_decoder_cases import CASES
from tests.models.tiled_decoder_oracle import GRIDS, Pair, alone, errors_of, pair_of

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(name)
    assert max(errors.values()) <= TOLERANCE, errors


def _other_grids(spec: TiledDecoderSpec) -> TiledDecoderSpec:
    return replace(spec, image=replace(spec.image, grids=((1, 1), (2, 1), (1, 3))))


def _other_read_layers(spec: TiledDecoderSpec) -> TiledDecoderSpec:
    return replace(spec, image=replace(spec.image, read_layers=(1, 2)))


def _other_eps(spec: TiledDecoderSpec) -> TiledDecoderSpec:
    return replace(spec, image=replace(spec.image, norm=replace(spec.image.norm, eps=1e-5)))


@pytest.mark.parametrize("change", [_other_grids, _other_read_layers, _other_eps])
def test_a_wrong_spec_is_noticed(change: Callable[[TiledDecoderSpec], TiledDecoderSpec]) -> None:
    pair = pair_of("mllama")
    with torch.device("meta"):
        broken = TiledDecoder(change(pair.graph.spec))
    broken.load_state_dict(pair.graph.state_dict(), assign=True)
    assert alone(pair, broken) > 2 * TOLERANCE


@pytest.mark.parametrize(
    "parameter",
    [
        "text.layers.1.before.0.attention_gate",
        "text.layers.2.before.0.mlp_gate",
        "text.layers.2.before.0.k_norm.weight",
        "image.tile_gate",
        "image.embeddings.tile_gate",
        "image.embeddings.position_gate",
        "image.gated_layers.1.mlp_gate",
        "image.middle_norm.weight",
    ],
)
def test_a_wrong_weight_is_noticed(parameter: str) -> None:
    pair = pair_of("mllama")
    with torch.device("meta"):
        broken = TiledDecoder(pair.graph.spec)
    weights = dict(pair.graph.state_dict())
    weights[parameter] = weights[parameter].roll(1, -1) + (0.5 if weights[parameter].numel() == 1 else 0.0)
    broken.load_state_dict(weights, assign=True)
    assert alone(pair, broken) > 2 * TOLERANCE


def test_what_fills_up_takes_part() -> None:
    """As it was trained: an image is read otherwise where empty tiles stand beside its own."""
    pair = pair_of("mllama")
    graph, tile = pair.graph, pair.tiles[3][0]
    spec = replace(pair.graph.spec.image, max_tiles=2, grids=((1, 1),))
    with torch.device("meta"):
        fewer = TiledDecoder(replace(graph.spec, image=spec))
    weights = dict(graph.state_dict())
    width = graph.spec.image.hidden_size
    for name, count in (("embeddings.tile", 1), ("embeddings.tile_position", spec.num_tokens), ("tile", 1)):
        table = weights[f"image.{name}.weight"]
        weights[f"image.{name}.weight"] = table[:2, : 2 * count * width].contiguous()
    fewer.load_state_dict(weights, assign=True)
    assert (fewer.states(tile, (1, 1)) - graph.states(tile, (1, 1))).abs().max() > 1e-3


def test_words_alone_need_no_image() -> None:
    """Layers that attend to images change nothing where there is none, whatever their weights."""
    pair = pair_of("mllama")
    hidden = pair.graph.text(Batch.pack([pair.texts[1]])).hidden
    assert (pair.graph.logits(hidden) - pair.expected[1]).abs().max() <= TOLERANCE


def test_eight_bits_are_near() -> None:
    pair = pair_of("mllama")
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, TiledDecoder)
    assert 1e-4 < alone(pair, coded) < 0.2


def test_kernels_take_the_layers() -> None:
    pair = pair_of("mllama")
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, TiledDecoder)
    assert use_kernels(graph, torch.float32, "native").num_native
    assert alone(pair, graph) <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "grid", "words"),
    [
        ((1, 3, 8, 8), None, "has no grid"),
        ((2, 3, 8, 8), (1, 2), "of 1 x 1, 1 x 3, 2 x 1 tiles"),
        ((3, 3, 8, 8), (2, 1), r"\[2, 3, 8, 8\] is needed"),
        ((1, 3, 8, 4), (1, 1), r"\[1, 3, 8, 8\] is needed"),
    ],
)
def test_images_of_another_shape_are_refused(
    shape: tuple[int, ...], grid: tuple[int, int] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        pair_of("mllama").graph.num_places(ImageInput.of(np.zeros(shape, np.float32), grid))


def test_newer_files_name_tensors_in_another_way() -> None:
    pair = write(CASES["mllama"], Pair)
    path = pair.folder / "model.safetensors"
    stored = load_file(path)
    is_new = any(name.startswith("model.language_model.") for name in stored)

    def other(name: str) -> str:
        if is_new:
            name = name.replace("model.language_model.", "language_model.model.").removeprefix("model.")
            return name.replace("lm_head", "language_model.lm_head")
        if "lm_head" in name:
            return "lm_head.weight"
        return "model." + name.replace("language_model.model.", "language_model.")

    save_file({other(name): tensor for name, tensor in stored.items()}, path)
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, TiledDecoder)
    states = graph.states(pair.tiles[0][0], GRIDS[0][0])
    assert torch.equal(states, pair.graph.states(pair.tiles[0][0], GRIDS[0][0]))


def test_an_unknown_tensor_is_refused() -> None:
    pair = write(CASES["mllama"], Pair)
    path = pair.folder / "model.safetensors"
    stored = load_file(path)
    name = next(name for name in stored if name.endswith("gate_attn"))
    save_file({(f"{one}_2" if one == name else one): tensor for one, tensor in stored.items()}, path)
    with pytest.raises(CheckpointCorrupt):
        load(pair.folder, dtype="float32")


@pytest.mark.parametrize(
    ("part", "changed", "named"),
    [
        ("vision_config", {"twist": 1}, "twist"),
        ("vision_config", {"intermediate_layers_indices": [0, 3]}, "intermediate_layers_indices"),
        ("vision_config", {"vision_output_dim": 64}, "vision_output_dim"),
        ("vision_config", {"supported_aspect_ratios": [[2, 2]]}, "max_num_tiles"),
        ("vision_config", {"supported_aspect_ratios": [[2]]}, "aspect ratio"),
        ("text_config", {"twist": 1}, "twist"),
        ("text_config", {"cross_attention_layers": [3, 1]}, "cross_attention_layers"),
        ("text_config", {"cross_attention_layers": [1, 5]}, "cross_attention_layers"),
        (None, {"image_token_index": 5}, "image_token_index"),
        (None, {"tie_word_embeddings": True}, "ties"),
        (None, {"twist": 1}, "twist"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    part: str | None, changed: dict[str, object], named: str
) -> None:
    config = read_config(pair_of("mllama").folder)
    values = config if part is None else config[part]
    assert isinstance(values, dict)
    values |= changed  # type: ignore[arg-type]
    brand = brand_of("MllamaForConditionalGeneration")
    with pytest.raises(UnsupportedConfig, match=named):
        brand.parse(ConfigReader(config))
