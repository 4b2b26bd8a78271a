"""DeepSeek-V3 answers as transformers does under both readings of its latents, but not where changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cynosure.attention import Watch
from cynosure.attention.masks import Full, Window
from cynosure.attention.mla import MlaReading
from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import LayerSpec
from cynosure.models.families import deepseek
from cynosure.models.load import load
from cynosure.models.mla_attention import MlaSpec, reading_of
from cynosure.models.moe import GroupRouterSpec, MoeSpec
from tests.models import moe_oracle as oracle
from tests.models.decoder_oracle import CHECKS, TOLERANCE, Pair, gap, in_chunks, logits_of, peakedness

Change = Callable[[LayerSpec], LayerSpec]
NAMES = ("deepseek-yarn", "deepseek-plain")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return oracle.pair_of(request.param)


@pytest.fixture(scope="module")
def scaled() -> Pair:
    return oracle.pair_of("deepseek-yarn")


@torch.no_grad()
def test_attention_is_peaked_so_that_errors_show(pair: Pair) -> None:
    assert peakedness(pair) < 0.75


@pytest.mark.parametrize("check", CHECKS)
@torch.no_grad()
def test_parity(pair: Pair, check: str) -> None:
    assert CHECKS[check](pair) <= TOLERANCE


@pytest.mark.parametrize("chosen", MlaReading)
@pytest.mark.parametrize("check", ["prefill", "token_by_token", "chunked", "padded"])
@torch.no_grad()
def test_parity_of_each_reading(scaled: Pair, chosen: MlaReading, check: str) -> None:
    assert CHECKS[check](oracle.reading(scaled, chosen)) <= TOLERANCE


def test_steps_absorb_and_longer_passes_expand() -> None:
    assert reading_of(Batch.pack([[1], [2]])) is MlaReading.ABSORBED
    assert reading_of(Batch.pack([[1], [2, 3]])) is MlaReading.EXPANDED


def test_the_cache_holds_one_row_a_token(scaled: Pair) -> None:
    k, v = scaled.graph.new_cache(2, 5).rows(0)
    assert (tuple(k.shape), tuple(v.shape)) == ((10, 1, 28), (10, 1, 0))


@torch.no_grad()
def test_both_readings_give_the_same_shares(scaled: Pair) -> None:
    batch = Batch.pack([scaled.prompts[0]], segments=[[0] * 12 + [1] * 32])
    shares = []
    for chosen in MlaReading:
        out = oracle.reading(scaled, chosen).graph(batch, watch=Watch(mass=True, entropy=True))
        shares.append(torch.stack([state.shares for state in out.states.values()]))
        torch.testing.assert_close(shares[-1].sum(-1), torch.ones(3, 44, 4))
    torch.testing.assert_close(*shares, rtol=1e-4, atol=1e-5)


def _attention(**changes: object) -> Change:
    return lambda layer: replace(layer, attention=replace(layer.attention, **changes))


def _rope(**changes: object) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, MlaSpec)
        return _attention(position=replace(layer.attention.position, **changes))(layer)

    return change


def _router(**changes: object) -> Change:
    def change(layer: LayerSpec) -> LayerSpec:
        if not isinstance(layer.mlp, MoeSpec):
            return layer
        return replace(layer, mlp=replace(layer.mlp, router=replace(layer.mlp.router, **changes)))

    return change


CHANGES: dict[str, Change] = {
    "rope base": _rope(theta=490.0),
    "halves pair up instead of neighbours": _rope(is_interleaved=False),
    "scores not scaled by YaRN": _attention(scale=22**-0.5),
    "window one token too short": _attention(mask=Window(43)),
    "mask dropped": _attention(mask=Full()),
    "one group more": _router(num_chosen_groups=3),
    "weights as they come": _router(is_normalised=False),
    "weights not scaled": _router(scale=1.0),
    "one expert fewer": _router(num_chosen=3),
}


@pytest.mark.parametrize("name", CHANGES)
@torch.no_grad()
def test_a_changed_model_is_noticed(scaled: Pair, name: str) -> None:
    spec = replace(scaled.graph.spec, layers=tuple(map(CHANGES[name], scaled.graph.spec.layers)))
    changed = oracle.rebuilt(scaled.graph, spec)
    for chosen in MlaReading:
        graph = oracle.reading(replace(scaled, model=replace(scaled.model, graph=changed)), chosen).graph
        assert gap(logits_of(graph, scaled.prompts[0]), scaled.expected[0]) > TOLERANCE


@pytest.mark.parametrize("parameter", ["attention.w_k", "attention.w_v"])
@torch.no_grad()
def test_swapped_heads_are_noticed(scaled: Pair, parameter: str) -> None:
    changed = oracle.rebuilt(scaled.graph, scaled.graph.spec)
    weight = changed.get_parameter(f"layers.1.{parameter}")
    weight.copy_(weight[[1, 0, 2, 3]])
    for sizes in ([44], [43, 1]):
        assert gap(in_chunks(changed, scaled.prompts[0], sizes), scaled.expected[0]) > TOLERANCE


@pytest.mark.parametrize("module", ["layers.1.mlp.router.correction", "layers.1.mlp.shared.down.weight"])
@torch.no_grad()
def test_parts_of_the_mixture_matter(scaled: Pair, module: str) -> None:
    changed = oracle.rebuilt(scaled.graph, scaled.graph.spec)
    changed.state_dict()[module].zero_()
    assert gap(logits_of(changed, scaled.prompts[0]), scaled.expected[0]) > TOLERANCE


def test_corrections_stay_float32(scaled: Pair) -> None:
    graph = load(scaled.folder, dtype="bfloat16").graph
    assert {str(buffer.dtype) for buffer in graph.buffers()} == {"torch.float32"}
    assert {str(parameter.dtype) for parameter in graph.parameters()} == {"torch.bfloat16"}
    with torch.no_grad():
        logits = graph.logits(graph(Batch.pack([scaled.prompts[0]])).hidden).float()
    # The median: where two experts rank nearly alike, rounding sends a token to another one.
    assert (logits - scaled.expected[0]).abs().median() < 0.1


def test_weights_are_views_of_the_file(scaled: Pair) -> None:
    """Splitting the projection of the latent copies nothing."""
    attention = scaled.graph.layers[0].attention
    assert attention.w_k.untyped_storage().data_ptr() == attention.w_v.untyped_storage().data_ptr()


def _rewrite(folder: Path, target: Path, extra: dict[str, torch.Tensor]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({**tensors, **extra}, target / "model.safetensors")
    (target / "config.json").write_text((folder / "config.json").read_text())


DRAFT = {
    "model.layers.3.eh_proj.weight": torch.ones(64, 128),
    "model.layers.3.enorm.weight": torch.ones(64),
    "model.layers.3.input_layernorm.weight": torch.ones(64),
}


@torch.no_grad()
def test_layers_for_drafts_are_left_out(scaled: Pair, tmp_path: Path) -> None:
    _rewrite(scaled.folder, tmp_path, DRAFT)
    graph = load(tmp_path, dtype="float32").graph
    assert logits_of(graph, scaled.prompts[0]).equal(logits_of(scaled.graph, scaled.prompts[0]))


def test_a_layer_too_many_is_noticed(scaled: Pair, tmp_path: Path) -> None:
    _rewrite(scaled.folder, tmp_path, {"model.layers.3.input_layernorm.weight": torch.ones(64)})
    with pytest.raises(CheckpointCorrupt, match="in vain"):
        load(tmp_path)


def _config(folder: Path, **changes: object) -> ConfigReader:
    values = json.loads((folder / "config.json").read_text())
    return ConfigReader({key: value for key, value in {**values, **changes}.items() if value is not None})


def test_the_authors_own_config_is_read(scaled: Pair) -> None:
    rope = {**oracle.CASES["deepseek-yarn"].settings["rope_parameters"]}
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    old = _config(
        scaled.folder,
        rope_parameters=None,
        rope_scaling={**rope, "type": kind},
        rope_theta=theta,
        rope_interleave=None,
        qk_head_dim=None,
        head_dim=None,
        scoring_func="sigmoid",
        topk_method="noaux_tc",
        moe_layer_freq=1,
        aux_loss_alpha=0.001,
        seq_aux=True,
        ep_size=1,
    )
    assert deepseek.parse(old) == scaled.graph.spec


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"scoring_func": "softmax"}, "scoring_func"),
        ({"topk_method": "greedy"}, "topk_method"),
        ({"moe_layer_freq": 2}, "moe_layer_freq"),
        ({"n_group": 5}, "n_group"),
        ({"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"index_topk": 2048}, "index_topk"),
    ],
)
def test_unknown_maths_is_refused_by_name(scaled: Pair, changes: dict[str, object], key: str) -> None:
    with pytest.raises(UnsupportedConfig, match=key):
        deepseek.parse(_config(scaled.folder, **changes))


def test_a_mixture_in_every_layer_has_one_group_by_default() -> None:
    assert GroupRouterSpec(2) == GroupRouterSpec(2, 1, 1, True, 1.0)
