"""Every decoder that reads images equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.core.errors import (
    CheckpointCorrupt,
    InputError,
    UnsupportedConfig,
)
from cynosure.models.batch import Batch
from cynosure.models.brand import ModelKind
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.families.table import BRANDS
from cynosure.models.image_decoder import ImageDecoder
from cynosure.models.image_decoder_spec import ImageDecoderSpec
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from tests.models.grid_decoder_oracle import GRID_DECODER_CASES
from tests.models.image_decoder_cases import CASES, IMAGE_ID
from tests.models.image_decoder_oracle import (
    IMAGE_DECODER_CASES,
    Pair,
    alone,
    errors_of,
    pair_of,
)
from tests.models.image_oracle import TOLERANCE, write
from tests.models.tiled_decoder_oracle import TILED_DECODER_CASES

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(name)
    assert max(errors.values()) <= TOLERANCE, errors


def test_every_row_of_the_table_is_measured() -> None:
    rows = {name for name, brand in BRANDS.items() if brand.kind is ModelKind.IMAGE_DECODER}
    assert rows == {*IMAGE_DECODER_CASES, *GRID_DECODER_CASES, *TILED_DECODER_CASES}


def _fewer_layers(spec: ImageDecoderSpec) -> ImageDecoderSpec:
    return replace(spec, image=replace(spec.image, layers=spec.image.layers[:-1]))


def _other_activation(spec: ImageDecoderSpec) -> ImageDecoderSpec:
    return replace(spec, activation="relu")


@pytest.mark.parametrize("change", [_fewer_layers, _other_activation])
def test_a_wrong_spec_is_noticed(change: Callable[[ImageDecoderSpec], ImageDecoderSpec]) -> None:
    pair = pair_of("llava")
    with torch.device("meta"):
        broken = ImageDecoder(change(pair.graph.spec))
    broken.load_state_dict(pair.graph.state_dict(), assign=True, strict=False)
    assert alone(pair, broken) > 2 * TOLERANCE


def test_images_in_another_order_are_noticed() -> None:
    pair = pair_of("llava")
    pixels = pair.pixels[0]
    assert pixels is not None
    hidden = pair.graph(Batch.pack([pair.texts[0]]), pixels=pixels.flip(0)).hidden
    assert (pair.graph.logits(hidden) - pair.expected[0]).abs().max() > 0.01


def test_images_without_places_are_refused() -> None:
    pair = pair_of("llava")
    with pytest.raises(InputError, match=rf"take 8 places, .* have 0 .id {IMAGE_ID}"):
        pair.graph(Batch.pack([[3, 4]]), pixels=pair.pixels[0])
    with pytest.raises(InputError, match=r"take 0 places, .* have 8"):
        pair.graph(Batch.pack([pair.texts[0]]))


def test_eight_bits_are_near() -> None:
    pair = pair_of("llava")
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, ImageDecoder)
    assert 1e-4 < alone(pair, coded) < 0.2


def test_kernels_take_the_layers() -> None:
    pair = pair_of("llava")
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, ImageDecoder)
    assert use_kernels(graph, torch.float32, "native").num_native
    assert alone(pair, graph) <= TOLERANCE


def _renamed(pair: Pair, new: Callable[[str], str]) -> None:
    path = pair.folder / "model.safetensors"
    save_file({new(name): tensor for name, tensor in load_file(path).items()}, path)


NAMINGS: dict[str, Callable[[str], str]] = {
    "published": lambda name: name.replace("vision_tower.", "vision_tower.vision_model."),
    "newer": lambda name: (
        name.replace("language_model.lm_head", "lm_head")
        if "lm_head" in name
        else "model." + name.replace("language_model.model.", "language_model.")
    ),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_files_name_tensors_in_other_ways_too(naming: str) -> None:
    pair = write(CASES["llava"], Pair)
    _renamed(pair, NAMINGS[naming])
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, ImageDecoder)
    assert alone(pair, graph) <= TOLERANCE


@pytest.mark.parametrize(
    "new",
    [
        lambda name: name.replace("vision_tower.", "tower."),
        lambda name: name.replace("multi_modal_projector.linear_1.bias", "multi_modal_projector.twist"),
    ],
    ids=["a part is absent", "a tensor is unknown"],
)
def test_a_checkpoint_of_other_parts_is_damaged(new: Callable[[str], str]) -> None:
    pair = write(CASES["llava"], Pair)
    _renamed(pair, new)
    with pytest.raises(CheckpointCorrupt):
        load(pair.folder, dtype="float32")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"vision_feature_layer": 9}, "vision_feature_layer"),
        ({"vision_feature_layer": [-2, -3]}, "vision_feature_layer"),
        ({"text_config": {"model_type": "bloom"}}, "bloom"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "model_type"),
        ({"twist": 1}, "twist"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(changed: dict[str, object], named: str) -> None:
    config = {**read_config(pair_of("llava").folder), **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        brand_of("LlavaForConditionalGeneration").parse(ConfigReader(config))
