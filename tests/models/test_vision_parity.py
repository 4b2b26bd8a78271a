"""Every encoder of images equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.core.errors import InputError, UnsupportedArchitecture, UnsupportedConfig
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.models.batch import Batch
from cynosure.models.brand import ModelKind
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.families.table import BRANDS
from cynosure.models.image_text import ImageText
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from cynosure.models.vision import VisionEncoder, patches_of
from cynosure.models.vision_spec import ImagePooling, TextPooling, VisionSpec
from tests.models.image_oracle import TOLERANCE
from tests.models.vision_cases import CASES
from tests.models.vision_oracle import (
    VISION_CASES,
    compared,
    errors_of,
    ours,
    pair_of,
)

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(name)
    assert max(errors.values()) <= TOLERANCE, errors


def test_every_encoder_of_images_in_the_table_is_measured() -> None:
    kinds = (ModelKind.VISION, ModelKind.IMAGE_TEXT)
    rows = {name for name, brand in BRANDS.items() if brand.kind in kinds}
    assert rows | {"CLIPTextModelWithProjection"} == VISION_CASES.keys()


@pytest.mark.parametrize("name", ["vit", "clip-vision", "siglip-vision"])
def test_attention_is_peaked_so_that_wrong_scores_show(name: str) -> None:
    pair = pair_of(name)
    maps = pair.oracle(pixel_values=pair.pixels, output_attentions=True).attentions
    shares = [-(w * w.clamp(min=1e-30).log()).sum(-1).mean() / w.new_tensor(w.shape[-1]).log() for w in maps]
    assert 0.05 < float(max(shares)) < 0.75


def _without_first_norm(spec: VisionSpec) -> VisionSpec:
    return replace(spec, has_first_norm=False)


def _other_activation(spec: VisionSpec) -> VisionSpec:
    return replace(spec, mlp=replace(spec.mlp, activation="gelu"))


def _norm_of_all(spec: VisionSpec) -> VisionSpec:
    return replace(spec, pooling=ImagePooling.CLASS)


def _other_eps(spec: VisionSpec) -> VisionSpec:
    return replace(spec, norm=replace(spec.norm, eps=0.05))


def _without_pooler(spec: VisionSpec) -> VisionSpec:
    assert spec.transform is not None
    return replace(spec, transform=replace(spec.transform, activation="relu"))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vit", _without_pooler),
        ("vit", _other_eps),
        ("clip-vision", _without_first_norm),
        ("clip-vision", _other_activation),
        ("clip-vision", _norm_of_all),
        ("siglip-vision", _other_activation),
    ],
)
def test_a_wrong_spec_is_noticed(name: str, change: Callable[[VisionSpec], VisionSpec]) -> None:
    pair = pair_of(name)
    assert isinstance(pair.graph, VisionEncoder)
    with torch.device("meta"):
        broken = VisionEncoder(change(pair.graph.spec))
    broken.load_state_dict(pair.graph.state_dict(), assign=True, strict=False)
    assert compared(broken, pair) > 2 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("vit", "embeddings.position.weight"),
        ("vit", "embeddings.class_token"),
        ("vit", "embeddings.patch.weight"),
        ("vit-classifier", "layers.0.attention.qkv.weight"),
        ("clip", "text.encoder.embeddings.position.weight"),
        ("clip", "logit_scale"),
        ("clip-text-projected", "projection.weight"),
        ("clip", "image.projection.weight"),
        ("siglip", "image.probe.probe"),
        ("siglip", "image.probe.k.weight"),
        ("siglip", "logit_bias"),
        ("siglip", "text.projection.bias"),
    ],
)
def test_a_wrong_weight_is_noticed(name: str, parameter: str) -> None:
    pair = pair_of(name)
    with torch.device("meta"):
        broken = type(pair.graph)(pair.graph.spec)
    weights = dict(pair.graph.state_dict())
    weights[parameter] = weights[parameter].roll(1, -1) + (0.1 if weights[parameter].numel() == 1 else 0.0)
    broken.load_state_dict(weights, assign=True)
    assert compared(broken, pair) > 2 * TOLERANCE


def test_another_end_of_a_text_is_noticed() -> None:
    pair = pair_of("clip")
    assert isinstance(pair.graph, ImageText)
    with torch.device("meta"):
        spec = pair.graph.spec
        broken = ImageText(replace(spec, text=replace(spec.text, pooling=TextPooling.LAST)))
    broken.load_state_dict(pair.graph.state_dict(), assign=True)
    longer = [[*ids, 5] for ids in pair.texts[1:]]
    mine, other = ours(pair.graph, pair.pixels, longer), ours(broken, pair.pixels, longer)
    # What stands behind the end is not read, as long as the end is found.
    assert torch.allclose(mine["text_embeds"], pair.expected["text_embeds"][1:], atol=TOLERANCE)
    assert (mine["text_embeds"] - other["text_embeds"]).abs().max() > 0.01


def test_a_text_without_its_end_is_refused() -> None:
    pair = pair_of("clip")
    assert isinstance(pair.graph, ImageText)
    with pytest.raises(InputError, match="119"):
        pair.graph.embed_texts(Batch.pack([[3, 4, 5]]))


@pytest.mark.parametrize("shape", [(1, 3, 18, 20), (1, 1, 18, 18), (0, 3, 18, 18)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="interpolated"):
        pair_of("vit").graph(torch.zeros(shape))


def test_patches_are_those_of_a_convolution() -> None:
    pixels, weight = torch.randn(2, 3, 11, 9), torch.randn(7, 3, 4, 4)
    expected = torch.nn.functional.conv2d(pixels, weight, stride=4).flatten(2).transpose(1, 2)
    assert torch.allclose(patches_of(pixels, 4) @ weight.flatten(1).T, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["vit", "clip", "siglip"])
def test_eight_bits_are_near(name: str) -> None:
    pair = pair_of(name)
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert 1e-4 < compared(coded, pair) < 0.2


@pytest.mark.parametrize("name", ["vit", "clip", "siglip"])
def test_kernels_take_the_layers(name: str) -> None:
    pair = pair_of(name)
    graph = load(pair.folder, dtype="float32").graph
    report = use_kernels(graph, torch.float32, "native")
    assert report.num_native
    assert compared(graph, pair) <= TOLERANCE


def test_the_plain_backend_agrees() -> None:
    pair = pair_of("siglip-vision")
    plain: Tensor | None = pair.graph(pair.pixels, backend="reference").pooled
    assert plain is not None
    assert torch.allclose(plain, pair.expected["pooler_output"], atol=TOLERANCE)


def test_a_tower_of_texts_answers_no_request() -> None:
    folder = pair_of("clip-text-projected").folder
    with pytest.raises(UnsupportedArchitecture, match="neither embeds nor scores"):
        describe(ServedModel("tiny", str(folder), dtype="float32"))


@pytest.mark.parametrize("name", ["vit", "clip"])
def test_no_server_answers_with_images(name: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="vectors of images"):
        describe(ServedModel("tiny", str(pair_of(name).folder), dtype="float32"))


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("vit", {"qkv_bias": False}, "qkv_bias"),
        ("vit", {"pooler_output_size": 32}, "pooler_output_size"),
        ("vit", {"image_size": [18, 20]}, "image_size"),
        ("vit", {"patch_size": 19}, "patch"),
        ("clip", {"text_config_dict": {"hidden_size": 7}}, "hidden_size"),
        ("clip-vision", {"twist": 1}, "twist"),
        ("siglip", {"twist": 1}, "twist"),
        ("siglip-vision", {"num_attention_heads": 5}, "heads"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    name: str, changed: dict[str, object], named: str
) -> None:
    config = {**read_config(pair_of(name).folder), **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        brand_of(CASES[name].architecture).parse(ConfigReader(config))


def test_a_key_of_a_tower_is_refused_by_name() -> None:
    config = read_config(pair_of("clip").folder)
    tower = config["vision_config"]
    assert isinstance(tower, dict)
    config["vision_config"] = {**tower, "twist": 1}
    with pytest.raises(UnsupportedConfig, match="vision_config has twist"):
        brand_of("CLIPModel").parse(ConfigReader(config))
