"""GPT-OSS answers as transformers does, and no longer where its maths is changed; its codes load."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from cynosure.attention import Sink
from cynosure.attention.masks import Causal, Full, Window
from cynosure.attention.positions import Rope, Yarn
from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families import gpt_oss
from cynosure.models.load import load
from cynosure.models.moe import ClampedMlpSpec, MoeSpec, TopRouterSpec
from cynosure.models.self_attention import SelfAttentionSpec
from tests.models import moe_oracle as oracle
from tests.models.decoder_oracle import CHECKS, TOLERANCE, Pair, gap, logits_of, peakedness, prefill

Change = Callable[[LayerSpec], LayerSpec]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return oracle.pair_of("gpt-oss")


@torch.no_grad()
def test_attention_is_peaked_so_that_errors_show(pair: Pair) -> None:
    assert peakedness(pair) < 0.7


@pytest.mark.parametrize("check", CHECKS)
@torch.no_grad()
def test_parity(pair: Pair, check: str) -> None:
    assert CHECKS[check](pair) <= TOLERANCE


def _attention(**changes: object) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec)
        return replace(
            layer, attention=replace(layer.attention, attention=replace(layer.attention.attention, **changes))
        )

    return change


def _rope(**changes: object) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec)
        return _attention(position=replace(layer.attention.attention.position, **changes))(layer)

    return change


def _window(size: int) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec)
        has_window = layer.attention.attention.mask != Causal()
        return _attention(mask=Causal() & Window(size))(layer) if has_window else layer

    return change


def _moe(**changes: object) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.mlp, MoeSpec)
        return replace(layer, mlp=replace(layer.mlp, **changes))

    return change


YARN = Yarn(8.0, 16, beta_fast=4.0, truncate=False)
CHANGES: dict[str, Change] = {
    "rope base": _rope(theta=490.0),
    "ramp at whole channels": _rope(scaling=replace(YARN, truncate=True)),
    "scores not scaled by YaRN": _rope(scaling=replace(YARN, attention_factor=1.0)),
    "window one larger": _window(10),
    "window one smaller": _window(8),
    "windows everywhere": _attention(mask=Causal() & Window(9)),
    "mask dropped": _attention(mask=Full()),
    "sinks of zero": _attention(sink=Sink.ZERO),
    "one expert fewer": _moe(router=TopRouterSpec(2)),
    "another limit": _moe(expert=ClampedMlpSpec(48, limit=1.4)),
    "another alpha": _moe(expert=ClampedMlpSpec(48, alpha=1.6, limit=1.5)),
}


def _spec(pair: Pair, change: Change) -> DecoderSpec:
    return replace(pair.graph.spec, layers=tuple(map(change, pair.graph.spec.layers)))


@torch.no_grad()
def test_an_unchanged_spec_passes(pair: Pair) -> None:
    """The positive control of what follows."""
    same = oracle.rebuilt(pair.graph, _spec(pair, _rope(scaling=YARN)))
    assert gap(logits_of(same, pair.prompts[0]), pair.expected[0]) <= TOLERANCE


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_a_changed_model_is_noticed(pair: Pair, name: str) -> None:
    spec, state = _spec(pair, CHANGES[name]), pair.graph.state_dict()
    if name == "sinks of zero":
        state = {key: value for key, value in state.items() if not key.endswith("sinks")}
    changed = type(pair.graph)(spec)
    changed.load_state_dict(state)
    assert gap(logits_of(changed, pair.prompts[0]), pair.expected[0]) > TOLERANCE


@pytest.mark.parametrize("parameter", ["attention.q.weight", "attention.sinks"])
@torch.no_grad()
def test_swapped_heads_are_noticed(pair: Pair, parameter: str) -> None:
    changed = oracle.rebuilt(pair.graph, pair.graph.spec)
    weight = changed.get_parameter(f"layers.1.{parameter}")
    weight.copy_(weight.unflatten(0, (4, -1))[[1, 0, 2, 3]].flatten(0, 1))
    assert gap(logits_of(changed, pair.prompts[0]), pair.expected[0]) > TOLERANCE


@torch.no_grad()
def test_swapped_gate_and_up_are_noticed(pair: Pair) -> None:
    changed = oracle.rebuilt(pair.graph, pair.graph.spec)
    stack = changed.get_parameter("layers.0.mlp.experts.gate_up")
    stack.copy_(torch.cat([stack[..., 0::2], stack[..., 1::2]], -1))
    assert gap(logits_of(changed, pair.prompts[0]), pair.expected[0]) > TOLERANCE


def _config(pair: Pair, **changes: object) -> ConfigReader:
    values = json.loads((pair.folder / "config.json").read_text())
    return ConfigReader({key: value for key, value in {**values, **changes}.items() if value is not None})


def test_windows_alternate_where_layers_are_not_listed(pair: Pair) -> None:
    spec = gpt_oss.parse(_config(pair, layer_types=None))
    assert spec == gpt_oss.parse(_config(pair))
    masks = [
        layer.attention.attention.mask
        for layer in spec.layers
        if isinstance(layer.attention, SelfAttentionSpec)
    ]
    assert masks == [Causal() & Window(9), Causal(), Causal() & Window(9)]


def test_the_authors_own_config_is_read(pair: Pair) -> None:
    """Before transformers 5: `rope_scaling` beside `rope_theta`, and both names of the number of experts."""
    rope = {**oracle.CASES["gpt-oss"].settings["rope_parameters"]}
    theta = rope.pop("rope_theta")
    old = _config(
        pair,
        rope_parameters=None,
        rope_scaling=rope,
        rope_theta=theta,
        experts_per_token=3,
        initial_context_length=16,
        swiglu_alpha=None,
    )
    assert gpt_oss.parse(old) == pair.graph.spec


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rope_parameters": None}, "rope_scaling"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quant_method"),
        ({"experts_per_token": 2}, "experts_per_token"),
        ({"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_sinks_per_window": 3}, "attention_sinks_per_window"),
    ],
)
def test_unknown_maths_is_refused_by_name(pair: Pair, changes: dict[str, object], key: str) -> None:
    with pytest.raises(UnsupportedConfig, match=key):
        gpt_oss.parse(_config(pair, **changes))


@torch.no_grad()
def test_mxfp4_codes_load_as_the_numbers_they_stand_for(tmp_path: Path) -> None:
    case = oracle.CASES["gpt-oss"]
    # Codes come in blocks of 32.
    whole = oracle.make_pair(replace(case, settings={**case.settings, "intermediate_size": 64}))
    tensors = safetensors.torch.load_file(whole.folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj") and "experts" in name]:
        num_experts, width, out = tensors.pop(name).shape
        codes = torch.randint(0, 256, (num_experts, out, width // 32, 16), dtype=torch.uint8)
        scales = torch.randint(120, 126, (num_experts, out, width // 32), dtype=torch.uint8)
        tensors |= {f"{name}_blocks": codes, f"{name}_scales": scales}
        whole.oracle.get_parameter(name).copy_(convert_moe_packed_tensors(codes, scales))
    config = json.loads((whole.folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    coded = Pair(whole.oracle, load(tmp_path, dtype="float32"), tmp_path)
    assert prefill(coded) <= TOLERANCE
    assert gap(logits_of(whole.graph, coded.prompts[0]), coded.expected[0]) > TOLERANCE


def test_codes_without_scales_are_noticed(pair: Pair, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(pair.folder / "model.safetensors")
    name = "model.layers.0.mlp.experts.down_proj"
    tensors[f"{name}_blocks"] = torch.zeros(6, 64, 1, 16, dtype=torch.uint8)
    del tensors[name]
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((pair.folder / "config.json").read_text())
    with pytest.raises(CheckpointCorrupt, match="down_proj_blocks"):
        load(tmp_path)


def test_rope_is_yarn(pair: Pair) -> None:
    attention = pair.graph.spec.layers[0].attention
    assert isinstance(attention, SelfAttentionSpec)
    assert isinstance(attention.attention.position, Rope)
    assert attention.attention.position.scaling == YARN
