"""Every decoder that reads images of any size equals transformers' on the same files; broken ones do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.attention.positions import AxialRope, MRope
from cynosure.core.errors import InputError, UnsupportedConfig
from cynosure.models.batch import Batch
from cynosure.models.config_reader import read_config
from cynosure.models.decoder_spec import LayerSpec
from cynosure.models.encoder_spec import EncoderLayerSpec
from cynosure.models.grid_decoder import GridDecoder
from cynosure.models.grid_vision_spec import GridDecoderSpec, PatchGrid
from cynosure.models.load import load, read_spec
from cynosure.models.native.graph import use_kernels
from cynosure.models.self_attention import SelfAttentionSpec
from tests.models.grid_decoder_cases import CASES, VIDEO_ID
from tests.models.grid_decoder_oracle import GRIDS, Pair, alone, errors_of, pair_of
from tests.models.image_oracle import TOLERANCE, write

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(name)
    assert max(errors.values()) <= TOLERANCE, errors


def _other_sections(spec: GridDecoderSpec) -> GridDecoderSpec:
    def changed(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec)
        position = layer.attention.attention.position
        assert isinstance(position, MRope)
        attention = replace(layer.attention.attention, position=replace(position, sections=(4, 2, 2)))
        return replace(layer, attention=replace(layer.attention, attention=attention))

    return replace(spec, text=replace(spec.text, layers=tuple(map(changed, spec.text.layers))))


def _other_base(spec: GridDecoderSpec) -> GridDecoderSpec:
    def changed(layer: EncoderLayerSpec) -> EncoderLayerSpec:
        assert isinstance(layer.attention.position, AxialRope)
        position = replace(layer.attention.position, theta=60.0)
        return replace(layer, attention=replace(layer.attention, position=position))

    return replace(spec, image=replace(spec.image, layers=tuple(map(changed, spec.image.layers))))


@pytest.mark.parametrize("change", [_other_sections, _other_base])
def test_a_wrong_spec_is_noticed(change: Callable[[GridDecoderSpec], GridDecoderSpec]) -> None:
    pair = pair_of("qwen2-vl")
    with torch.device("meta"):
        broken = GridDecoder(change(pair.graph.spec))
    broken.load_state_dict(pair.graph.state_dict(), assign=True)
    assert alone(pair, broken) > 2 * TOLERANCE


def test_an_image_on_its_side_is_noticed() -> None:
    """Rows for columns: as many places, at others."""
    pair = pair_of("qwen2-vl")
    turned = [PatchGrid(8, 2)]
    patches = pair.patches[2]
    hidden = pair.graph(pair.graph.pack([pair.texts[2]], [turned]), patches=patches, grids=turned).hidden
    assert (pair.graph.logits(hidden) - pair.expected[2]).abs().max() > 0.01


def test_positions_of_one_axis_are_refused() -> None:
    with pytest.raises(InputError, match="one axis"):
        pair_of("qwen2-vl").graph(Batch.pack([[3, 4]]))


def test_videos_are_refused() -> None:
    graph = pair_of("qwen2-vl").graph
    with pytest.raises(InputError, match="video"):
        graph(graph.pack([[3, VIDEO_ID]], [[]]))


def test_images_and_places_must_match() -> None:
    pair = pair_of("qwen2-vl")
    with pytest.raises(InputError, match=r"take 0 places, .* have 7"):
        pair.graph(pair.graph.pack([pair.texts[0]], [GRIDS[0]]))
    with pytest.raises(InputError, match=r"patches are of shape \[3, 96\]"):
        pair.graph.image(torch.zeros(3, 96), [PatchGrid(2, 2)])


def test_eight_bits_are_near() -> None:
    pair = pair_of("qwen2-vl")
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, GridDecoder)
    assert 1e-4 < alone(pair, coded) < 0.2


def test_kernels_take_the_layers() -> None:
    pair = pair_of("qwen2-vl")
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, GridDecoder)
    assert use_kernels(graph, torch.float32, "native").num_native
    assert alone(pair, graph) <= TOLERANCE


def test_published_files_have_the_keys_of_the_decoder_outside() -> None:
    """Their config is flat, with the names of that time; the tower says its patch size twice."""
    pair = write(CASES["qwen2-vl"], Pair)
    path = pair.folder / "config.json"
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rotary = text.pop("rope_parameters")
    text |= {
        "rope_theta": rotary["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rotary["mrope_section"]},
    }
    vision = config["vision_config"]
    vision |= {"in_chans": vision.pop("in_channels"), "spatial_patch_size": vision["patch_size"]}
    path.write_text(json.dumps({**text, **config, "model_type": "qwen2_vl", "vision_token_id": 95}))
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, GridDecoder)
    assert alone(pair, graph) <= TOLERANCE


def test_newer_files_name_tensors_in_another_way() -> None:
    pair = write(CASES["qwen2-vl"], Pair)
    path = pair.folder / "model.safetensors"

    def new(name: str) -> str:
        if name.startswith("lm_head"):
            return name
        return f"model.{name}" if name.startswith("visual.") else f"model.language_{name}"

    save_file({new(name): tensor for name, tensor in load_file(path).items()}, path)
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, GridDecoder)
    assert alone(pair, graph) <= TOLERANCE


@pytest.mark.parametrize(
    ("part", "changed", "named"),
    [
        ("vision_config", {"hidden_size": 32}, "channels"),
        ("vision_config", {"twist": 1}, "twist"),
        ("vision_config", {"rope_parameters": {"rope_type": "default"}}, "rope_type"),
        ("text_config", {"twist": 1}, "twist"),
        ("text_config", {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 2]}}, "sections"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    part: str, changed: dict[str, object], named: str
) -> None:
    config = read_config(pair_of("qwen2-vl").folder)
    values = config[part]
    assert isinstance(values, dict)
    config[part] = {**values, **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        read_spec(pair_of("qwen2-vl").folder, config, None)
