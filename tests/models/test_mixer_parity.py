"""Decoders with states equal transformers' on the same files, and broken ones do not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.cache import StateStore
from cynosure.core.errors import CheckpointError, UnsupportedConfig
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.kernels import why_none
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.packed_load import load_packed
from tests.models.brand_oracle import engine
from tests.models.decoder_oracle import TOLERANCE, gap, in_chunks, logits_of
from tests.models.mixer_cases import CASES
from tests.models.mixer_mutants import FAULTS, FAULTS_OF
from tests.models.mixer_oracle import FIRST, MATHS, errors_of, long_prompt, pair_of


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    pair = pair_of(name)
    assert pair.expected[0].std() > 0.3
    errors = errors_of(pair) if name in FIRST else errors_of(pair, MATHS)
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", CASES)
def test_faults_are_noticed(name: str) -> None:
    pair = pair_of(name)
    for fault in FAULTS_OF[name]:
        broken = FAULTS[fault](pair.graph)
        assert gap(logits_of(broken, pair.prompts[0]), pair.expected[0]) > 10 * TOLERANCE, fault


@pytest.mark.parametrize("part", ["tail", "matrix"])
@pytest.mark.parametrize("name", sorted(FIRST))
def test_a_state_that_is_lost_is_noticed(name: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = StateStore.commit

    def forget(store: StateStore) -> None:
        commit(store)
        for state in store._layers.values():
            {"tail": state.tail, "matrix": state.matrix}[part].zero_()

    pair = pair_of(name)
    prompt = pair.prompts[0]
    monkeypatch.setattr(StateStore, "commit", forget)
    found = in_chunks(pair.graph, prompt, (20, len(prompt) - 20))
    assert gap(found[:20], pair.expected[0][:20]) <= TOLERANCE
    assert gap(found, pair.expected[0]) > 10 * TOLERANCE


@pytest.mark.parametrize("name", sorted(FIRST))
def test_the_pool_codes_and_kernels_take_every_brand(name: str) -> None:
    """A card before any weight is read; weights in eight bits; kernels, or a reason for each part without."""
    pair, prompt = pair_of(name), pair_of(name).prompts[1]
    found = describe(ServedModel("tiny", str(pair.folder), dtype="float32"))
    assert found.card.weight_bytes == sum(p.numel() * 4 for p in pair.graph.parameters())
    assert found.card.watchable is None
    assert found.cache_bytes_per_state > 0
    assert (found.cache_bytes_per_token > 0) == (name != "mamba2")
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, Decoder)
    ours, plain = logits_of(coded, prompt), logits_of(pair.graph, prompt)
    assert 1e-4 < float((ours - plain).norm() / plain.norm()) < 0.2
    if not why_none():
        report = use_kernels(copy.deepcopy(pair.graph), torch.float32, "native")
        assert report.num_native > 0
        assert any(key.startswith("layers.0") for key in report.refused)
        twin = replace(pair, model=replace(pair.model, graph=copy.deepcopy(pair.graph)))
        assert engine(twin, kernels="native") <= TOLERANCE


def test_bfloat16_keeps_states_and_sums_in_float32() -> None:
    pair = pair_of("mamba2")
    graph = load(pair.folder, dtype="bfloat16").graph
    assert isinstance(graph, Decoder)
    cache = graph.new_cache(1, 60)
    batch = Batch.pack([pair.prompts[0]], max_len=60)
    hidden = graph(batch, cache).hidden
    assert hidden.dtype == torch.bfloat16
    assert graph.embedded(batch).dtype == torch.float32
    assert cache.states is not None
    state = cache.states.read(0, [0])
    assert (state.tail.dtype, state.matrix.dtype) == (torch.bfloat16, torch.float32)
    assert gap(graph.logits(hidden).float(), pair.expected[0]) < 0.1


@pytest.mark.parametrize("name", sorted(FIRST))
def test_other_dtypes_run(name: str) -> None:
    pair = pair_of(name)
    graph = load(pair.folder, dtype="bfloat16").graph
    assert isinstance(graph, Decoder)
    logits = in_chunks(graph, pair.prompts[0], (30, 1, len(pair.prompts[0]) - 31)).float()
    # A router may choose otherwise where two experts are nearly as good: one token is then far off.
    assert float((logits - pair.expected[0]).norm() / pair.expected[0].norm()) < 0.1


def test_a_long_text_in_single_tokens_does_not_drift() -> None:
    pair = pair_of("mamba2")
    prompt = long_prompt(pair)
    expected = pair.oracle(torch.tensor([prompt])).logits[0]
    assert gap(in_chunks(pair.graph, prompt, [1] * len(prompt)), expected) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_key_is_refused_by_name(name: str) -> None:
    config = {**read_config(pair_of(name).folder), "recurrent_twist": 0.5}
    with pytest.raises(UnsupportedConfig, match="recurrent_twist"):
        brand_of(CASES[name].architecture).parse(ConfigReader(config))


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("mamba2", {"hidden_act": "gelu"}, "hidden_act"),
        ("mamba2", {"expand": 3}, "expand"),
        ("mamba2", {"n_groups": 3}, "3 groups"),
        ("mamba2", {"time_step_limit": [0.5]}, "time_step_limit"),
        ("mamba2", {"time_step_limit": [0.5, 0.1]}, "time_step_limit"),
        ("mamba2", {"time_step_limit": [0.0, True]}, "time_step_limit"),
        ("bamba", {"hidden_act": "gelu"}, "hidden_act"),
        ("bamba", {"attn_layer_indices": [3]}, "attn_layer_indices"),
        ("bamba", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("bamba", {"attn_rotary_emb": 3}, "attn_rotary_emb"),
        ("bamba", {"mamba_d_head": 7}, "mamba_expand"),
        ("qwen3-next", {"layer_types": ["linear_attention"]}, "layer_types"),
        ("qwen3-next", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ("qwen3-next", {"linear_num_key_heads": 3}, "linear_num_key_heads"),
        ("qwen3-next", {"num_experts": None}, "num_experts"),
        ("qwen3-next", {"hidden_act": "gelu"}, "hidden_act"),
        ("recurrent-gemma", {"block_types": ["recurrent", "global"]}, "block_types"),
        ("recurrent-gemma", {"layer_types": ["linear_attention"] * 3}, "layer_types"),
        ("recurrent-gemma", {"lru_width": 50}, "lru_width"),
        ("recurrent-gemma", {"head_dim": 24}, "head_dim"),
        ("recurrent-gemma", {"embeddings_scale_by_sqrt_dim": False}, "embeddings_scale_by_sqrt_dim"),
    ],
)
def test_configs_that_say_otherwise_are_refused(name: str, changed: dict[str, object], named: str) -> None:
    config = {**read_config(pair_of(name).folder), **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        brand_of(CASES[name].architecture).parse(ConfigReader(config))


PUBLISHED: dict[str, dict[str, object]] = {
    "BambaForCausalLM": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_layer_indices": [9, 18, 27],
        "attn_rotary_emb": 64,
        "bos_token_id": 128000,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "mamba_chunk_size": 256,
        "mamba_conv_bias": True,
        "mamba_d_conv": 4,
        "mamba_d_head": 64,
        "mamba_d_state": 128,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": 128,
        "mamba_proj_bias": False,
        "max_position_embeddings": 262144,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "num_logits_to_keep": 1,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "use_mamba_kernels": True,
        "vocab_size": 128256,
    },
    "Qwen3NextForCausalLM": {
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 5120,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "moe_intermediate_size": 512,
        "norm_topk_prob": True,
        "num_attention_heads": 16,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "num_hidden_layers": 48,
        "num_key_value_heads": 2,
        "output_router_logits": False,
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000000,
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": 512,
        "tie_word_embeddings": False,
        "vocab_size": 151936,
    },
    "RecurrentGemmaForCausalLM": {
        "_block_types": ["recurrent", "recurrent", "attention"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_window_size": 2048,
        "block_types": ["recurrent", "recurrent", "attention"],
        "conv1d_width": 4,
        "embeddings_scale_by_sqrt_dim": True,
        "final_w_init_variance_scale": 0.07692307692307693,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 2560,
        "intermediate_size": 15360,
        "logits_soft_cap": 30.0,
        "lru_width": 2560,
        "num_attention_heads": 10,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "vocab_size": 256000,
        "w_init_variance_scale": 0.01,
    },
}


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_configs_are_read_as_they_are_published(architecture: str) -> None:
    spec = brand_of(architecture).parse(ConfigReader(PUBLISHED[architecture]))
    assert isinstance(spec, DecoderSpec)
    attending = [layer for layer, count in enumerate(spec.num_heads) if count]
    assert attending[:2] == {"B": [9, 18], "Q": [3, 7], "R": [2, 5]}[architecture[0]]
    assert spec.full_layers == (() if architecture.startswith("Recurrent") else tuple(attending))


def test_a_tensor_of_another_graph_is_refused(tmp_path: Path) -> None:
    """A config that says another graph than the weights: what no table knows is not passed over."""
    folder = pair_of("bamba").folder
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "attn_layer_indices": [0]}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        load(tmp_path)


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")
@pytest.mark.parametrize("name", ["mamba2", "recurrent-gemma"])
def test_packed_weights_are_found_again(name: str, tmp_path: Path) -> None:
    first, second = (
        load_packed(pair_of(name).folder, tmp_path, dtype="bfloat16", max_model_len=64).graph
        for _ in range(2)
    )
    assert isinstance(first, Decoder)
    assert isinstance(second, Decoder)
    assert len(list(tmp_path.iterdir())) == 1
    prompt = pair_of(name).prompts[1]
    assert torch.equal(logits_of(first, prompt), logits_of(second, prompt))
