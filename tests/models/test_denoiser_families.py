"""Configs and folders of denoisers: what is published is read, and what would change the maths is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    CheckpointUnsafe,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.load import brand_of, load
from cynosure.models.quantize import SCHEMES
from cynosure.models.quantized_folder import quantise_folder
from cynosure.models.safetensor_files import DIFFUSION_INDEX, DIFFUSION_SINGLE, SINGLE
from tests.models.denoise.denoise_cases import CASES
from tests.models.denoise.denoise_oracle import TOLERANCE, compared, encoded, pair_of, rewrite_config

_LEVELS = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
#: As Stable Diffusion 1.5 writes it.
STABLE_DIFFUSION = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": _LEVELS[0],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": _LEVELS[1],
}
AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def parse(config: dict[str, object]) -> object:
    return brand_of(str(config["_class_name"])).parse(ConfigReader(config))


@pytest.mark.parametrize(
    ("config", "num_parameters"), [(STABLE_DIFFUSION, 859_520_964), (AUTOENCODER, 83_653_863)]
)
def test_published_networks_have_their_size(config: dict[str, object], num_parameters: int) -> None:
    with torch.device("meta"):
        graph = brand_of(str(config["_class_name"])).build(parse(config))
    assert sum(one.numel() for one in graph.parameters()) == num_parameters


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("dit", {"twist": 1}, "twist = 1"),
        ("dit", {"norm_type": "layer_norm"}, "norm_type"),
        ("dit", {"norm_elementwise_affine": True}, "norm_elementwise_affine"),
        ("dit", {"cross_attention_dim": 32}, "cross_attention_dim"),
        ("dit", {"activation_fn": "geglu"}, "activation_fn"),
        ("dit-legacy", {"num_vector_embeds": 16}, "num_vector_embeds"),
        ("dit", {"attention_head_dim": 15}, "multiple of 4"),
        ("pixart", {"attention_type": "gated"}, "attention_type"),
        ("pixart", {"cross_attention_dim": None}, "no text is read"),
        ("pixart", {"cross_attention_dim": 20}, "projects texts"),
        (
            "pixart",
            {"num_attention_heads": 4, "cross_attention_dim": 64, "use_additional_conditions": True},
            "ratio",
        ),
        ("pixart-legacy", {"norm_type": "ada_norm"}, "norm_type"),
        ("unet", {"addition_embed_type": "text_time"}, "addition_embed_type"),
        ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet", {"num_class_embeds": 3}, "num_class_embeds"),
        ("unet", {"encoder_hid_dim": 8}, "encoder_hid_dim"),
        ("unet", {"time_embedding_type": "fourier"}, "time_embedding_type"),
        ("unet", {"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ("unet", {"mid_block_type": None}, "mid_block_type = null"),
        ("unet", {"norm_num_groups": None}, "norm_num_groups = null"),
        ("unet", {"norm_num_groups": 3}, "3 groups"),
        ("unet", {"attention_head_dim": 3}, "3 heads"),
        ("unet", {"attention_head_dim": [2, 4]}, "3 numbers"),
        ("unet", {"down_block_types": ["AttnDownBlock2D"] * 3}, "AttnDownBlock2D"),
        ("unet", {"up_block_types": ["UpBlock2D"] * 2}, "3 resolutions"),
        ("unet", {"block_out_channels": []}, "0 resolutions"),
        ("unet", {"layers_per_block": [1, 2, 1]}, "layers_per_block"),
        ("unet", {"cross_attention_dim": [24, 24, 24]}, "cross_attention_dim"),
        ("autoencoder", {"latents_mean": [0.1] * 4}, "latents_mean"),
        ("autoencoder", {"act_fn": "gelu"}, "act_fn"),
        ("autoencoder", {"up_block_types": ["AttnUpDecoderBlock2D"] * 3}, "AttnUpDecoderBlock2D"),
        ("autoencoder", {"norm_num_groups": 5}, "5 groups"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    name: str, changes: dict[str, object], named: str
) -> None:
    config = read_config(pair_of(name).folder)
    parse(config)
    with pytest.raises(UnsupportedConfig, match=named):
        parse({**config, **changes})


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder to be damaged."""
    shutil.copytree(pair_of("autoencoder").folder, tmp_path / "model")
    return tmp_path / "model"


def test_a_class_that_is_not_here_is_refused_by_name(copied: Path) -> None:
    rewrite_config(copied, _class_name="FluxTransformer2DModel")
    with pytest.raises(UnsupportedArchitecture, match="FluxTransformer2DModel"):
        load(copied)


def test_a_pipeline_is_told_to_name_a_part(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointNotFound, match="unet, transformer or vae"):
        load(tmp_path)


def test_pickled_weights_are_never_opened(copied: Path) -> None:
    (copied / DIFFUSION_SINGLE).unlink()
    (copied / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(CheckpointUnsafe, match="from diffusers import AutoModel"):
        load(copied)


def test_a_tensor_too_many_or_too_few_is_named(copied: Path) -> None:
    tensors = load_file(copied / DIFFUSION_SINGLE)
    save_file({**tensors, "encoder.twist": torch.ones(1)}, copied / DIFFUSION_SINGLE)
    with pytest.raises(CheckpointCorrupt, match=r"encoder\.twist"):
        load(copied)
    del tensors["decoder.conv_in.bias"]
    save_file(tensors, copied / DIFFUSION_SINGLE)
    with pytest.raises(CheckpointCorrupt, match="lacks 1 tensors"):
        load(copied)


@torch.no_grad()
def test_shards_are_put_together(copied: Path) -> None:
    tensors = load_file(copied / DIFFUSION_SINGLE)
    (copied / DIFFUSION_SINGLE).unlink()
    names = sorted(tensors)
    shards = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, copied / shard)
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (copied / DIFFUSION_INDEX).write_text(json.dumps({"weight_map": weight_map}))
    pair = pair_of("autoencoder")
    assert compared(load(copied, dtype="float32").graph, pair) <= TOLERANCE


@torch.no_grad()
def test_the_first_names_of_attention_are_known(copied: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(copied / DIFFUSION_SINGLE)
    renamed = {}
    for name, tensor in tensors.items():
        for new, first in old.items():
            name = name.replace(f"attentions.0.{new}", f"attentions.0.{first}")
        renamed[name] = tensor
    assert renamed.keys() != tensors.keys()
    save_file(renamed, copied / DIFFUSION_SINGLE)
    assert encoded(load(copied, dtype="float32").graph, pair_of("autoencoder")) <= TOLERANCE


@pytest.mark.parametrize("name", ["dit", "unet"])
@torch.no_grad()
def test_codes_are_written_and_read_without_the_weights_beside_them(name: str, tmp_path: Path) -> None:
    pair = pair_of(name)
    written = quantise_folder(pair.folder, SCHEMES["int8"], tmp_path / "coded")
    assert {path.name for path in written.folder.iterdir()} == {"config.json", SINGLE}
    coded = load(written.folder, dtype="float32").graph
    assert 1e-4 < compared(coded, pair) < 0.2
    assert compared(coded, pair) == compared(load(pair.folder, dtype="float32", quantize="int8").graph, pair)


@pytest.mark.parametrize("name", CASES)
def test_no_server_makes_images(name: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match="image generation is not served yet"):
        describe(ServedModel("tiny", str(pair_of(name).folder), dtype="float32"))
