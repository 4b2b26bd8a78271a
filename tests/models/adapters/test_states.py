"""Adapters of decoders with states: merged equals unmerged, fused projections included, and others stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cynosure.cache import StatePath
from cynosure.core.errors import UnsupportedConfig
from cynosure.engine.runner import Runner, Work
from cynosure.models.adapters.folder import load_adapter
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from tests.models.decoder_oracle import TOLERANCE, Pair, gap
from tests.models.mixer_oracle import pair_of

TARGETS = {
    "mamba2": ("in_proj", "out_proj"),
    "bamba": ("q_proj", "in_proj", "down_proj"),
    "qwen3-next": ("q_proj", "in_proj_qkvz", "out_proj"),
    "recurrent-gemma": ("linear_x", "q_proj", "gate_proj"),
}


def written(pair: Pair, folder: Path, targets: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Write a random adapter, and return what it adds to each weight of the oracle."""
    dice = torch.Generator().manual_seed(5)
    tensors, added = {}, {}
    for name, module in pair.oracle.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets:
            down = 0.2 * torch.randn(4, module.in_features, generator=dice)
            up = 0.2 * torch.randn(module.out_features, 4, generator=dice)
            tensors[f"base_model.model.{name}.lora_A.weight"] = down
            tensors[f"base_model.model.{name}.lora_B.weight"] = up
            added[name] = 2.0 * up @ down
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": list(targets), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return added


@torch.no_grad()
@pytest.mark.parametrize("name", TARGETS)
def test_merged_equals_unmerged(name: str, tmp_path: Path) -> None:
    pair = pair_of(name)
    added = written(pair, tmp_path, TARGETS[name])
    model = load(pair.folder, dtype="float32", max_model_len=256)
    assert isinstance(model.graph, Decoder)
    adapter = load_adapter(model, tmp_path)
    runner = Runner(model.graph, model.graph.new_paged_cache(8, 32, num_states=2))
    prompt = tuple(pair.prompts[0])
    adapted, plain = runner.run(
        [
            Work(prompt, 0, (0, 1), len(prompt), adapter=adapter, states=StatePath(0)),
            Work(prompt, 0, (2, 3), len(prompt), states=StatePath(1)),
        ]
    )
    for module, change in added.items():
        pair.oracle.get_submodule(module).weight.add_(change)
    expected = pair.oracle(torch.tensor([prompt])).logits[0]
    for module, change in added.items():
        pair.oracle.get_submodule(module).weight.sub_(change)
    assert gap(adapted, expected) <= TOLERANCE
    assert gap(plain, pair.expected[0]) <= TOLERANCE
    assert gap(expected, pair.expected[0]) > 100 * TOLERANCE


def test_what_is_no_projection_is_refused(tmp_path: Path) -> None:
    """The gates of Qwen3-Next are kept exact, and in another form."""
    pair = pair_of("qwen3-next")
    written(pair, tmp_path, ("in_proj_ba",))
    with pytest.raises(UnsupportedConfig, match="in_proj_ba"):
        load_adapter(load(pair.folder, dtype="float32"), tmp_path)
