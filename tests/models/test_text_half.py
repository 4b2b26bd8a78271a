"""Checkpoints that join images to texts are read without their other halves, whose tensors are left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.decoder import Decoder
from cynosure.models.load import brand_of, load
from tests.models import decoder_oracle
from tests.models.brand_oracle import pair_of
from tests.models.decoder_oracle import logits_of

#: The case of each architecture's texts, what stands before its tensors in published files, and other halves.
HALVES: Mapping[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "Llama4ForConditionalGeneration": (
        "llama4",
        {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
        ("vision_model.class_embedding", "multi_modal_projector.linear_1.weight"),
    ),
    "Mistral3ForConditionalGeneration": (
        "ministral3",
        {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
        ("vision_tower.patch_conv.weight", "multi_modal_projector.linear_1.weight"),
    ),
    "Gemma3nForConditionalGeneration": (
        "gemma3n",
        {"model.": "model.language_model."},
        (
            *("model.vision_tower.timm_model.conv_stem.conv.weight", "model.embed_vision.embedding.weight"),
            *("model.audio_tower.conformer.0.norm.weight", "model.embed_audio.embedding.weight"),
        ),
    ),
}
#: What configs say of the other halves.
OF_OTHERS: Mapping[str, dict[str, object]] = {
    "Llama4ForConditionalGeneration": {
        "vision_config": {"hidden_size": 8},
        "image_token_index": 150,
        "boi_token_index": 151,
    },
    "Mistral3ForConditionalGeneration": {
        "vision_config": {"hidden_size": 8},
        "image_token_index": 150,
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
    },
    "Gemma3nForConditionalGeneration": {
        "vision_config": {"hidden_size": 8},
        "audio_config": {"hidden_size": 8},
        "image_token_id": 150,
    },
}


def _published(architecture: str, folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """Write the case's checkpoint as its authors do theirs."""
    case, prefixes, others = HALVES[architecture]
    pair = pair_of(case)
    tensors = {}
    for name, tensor in safetensors.torch.load_file(pair.folder / "model.safetensors").items():
        lead = next(lead for lead in prefixes if name.startswith(lead))
        tensors[prefixes[lead] + name.removeprefix(lead)] = tensor
    tensors |= {name: torch.ones(3) for name in (*others, *extra)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    text = {key: value for key, value in read_config(pair.folder).items() if key != "architectures"}
    joined = {"text_config": text, **OF_OTHERS[architecture]}
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **joined}))
    return folder


@torch.no_grad()
@pytest.mark.parametrize("architecture", HALVES)
def test_texts_are_answered_as_by_the_half_alone(architecture: str, tmp_path: Path) -> None:
    pair = pair_of(HALVES[architecture][0])
    graph = load(_published(architecture, tmp_path), dtype="float32").graph
    assert isinstance(graph, Decoder)
    assert graph.spec == pair.graph.spec
    assert logits_of(graph, pair.prompts[0]).equal(logits_of(pair.graph, pair.prompts[0]))


@pytest.mark.parametrize("architecture", HALVES)
def test_no_request_may_bring_an_image(architecture: str, tmp_path: Path) -> None:
    card = describe(ServedModel("tiny", str(_published(architecture, tmp_path)), dtype="float32")).card
    assert card.image_token_id is None


@pytest.mark.parametrize("architecture", HALVES)
def test_a_declared_length_reaches_the_texts(architecture: str, tmp_path: Path) -> None:
    graph = load(_published(architecture, tmp_path), dtype="float32", max_model_len=50).graph
    assert isinstance(graph, Decoder)
    assert graph.spec.max_model_len == 50


@pytest.mark.parametrize("architecture", HALVES)
def test_what_belongs_to_no_half_is_noticed(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorrupt, match="twist"):
        load(_published(architecture, tmp_path, extra=("model.twist.weight",)), dtype="float32")
    config = read_config(tmp_path)
    with pytest.raises(UnsupportedConfig, match="twist"):
        brand_of(architecture).parse(ConfigReader({**config, "twist": 1}))
    text = {**config["text_config"], "twist": 1}
    with pytest.raises(UnsupportedConfig, match="text_config has twist"):
        brand_of(architecture).parse(ConfigReader({**config, "text_config": text}))
    with pytest.raises(UnsupportedConfig, match="text_config"):
        brand_of(architecture).parse(ConfigReader({**config, "text_config": None}))


@torch.no_grad()
def test_a_mistral_among_images_is_one_and_others_are_refused(tmp_path: Path) -> None:
    """Mistral Small 3.1, named as newer files are; its config has no `model_type` of the case's."""
    pair = decoder_oracle.pair_of("mistral")
    tensors = safetensors.torch.load_file(pair.folder / "model.safetensors")
    named = {name.replace("model.", "model.language_model.", 1): tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(named, tmp_path / "model.safetensors")
    text = {key: value for key, value in read_config(pair.folder).items() if key != "architectures"}
    config = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": text, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    graph = load(tmp_path, dtype="float32").graph
    assert isinstance(graph, Decoder)
    assert logits_of(graph, pair.prompts[0]).equal(logits_of(pair.graph, pair.prompts[0]))
    other = {**config, "text_config": {**text, "model_type": "qwen2"}}
    with pytest.raises(UnsupportedConfig, match="'qwen2'"):
        brand_of("Mistral3ForConditionalGeneration").parse(ConfigReader(other))
