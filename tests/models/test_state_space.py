"""Mamba-2 equals transformers in float32: whole prompts, parts of them, single tokens; faults are noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM

from cynosure.core.errors import EmptyInput, InputError, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.families.mamba2 import load_mamba2
from cynosure.models.load import load
from cynosure.models.state_space import LayerState, StateSpaceDecoder

CASES: dict[str, dict[str, Any]] = {
    "shared": {},
    "one_group": {"n_groups": 1, "conv_kernel": 2, "chunk_size": 4},
    "biases": {"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": True},
    "limits": {"time_step_limit": [0.3, 0.9], "residual_in_fp32": False},
}
LENGTH = 150  # more than two of our chunks
TOLERANCE = 5e-5


def oracle(name: str) -> Mamba2ForCausalLM:
    """A tiny model whose states last: rates, steps, skips and norms are drawn, not those of a start."""
    torch.manual_seed(0)
    sizes = {
        "num_heads": 4,
        "head_dim": 16,
        "hidden_size": 32,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 16,
    }
    config = Mamba2Config(vocab_size=61, num_hidden_layers=3, **{**sizes, **CASES[name]})
    model = Mamba2ForCausalLM(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if key.endswith(("A_log", "dt_bias")):
                tensor.normal_(-1.0, 1.0)
            elif key.endswith((".D", "norm.weight", "norm_f.weight")):
                tensor.normal_(1.0, 0.3)
            else:
                tensor.normal_(0.0, 0.3)
    return model


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    oracle(request.param).save_pretrained(folder)
    return request.param, folder


@pytest.fixture
def token_ids() -> Tensor:
    return torch.randint(61, (2, LENGTH), generator=torch.Generator().manual_seed(3))


def continued(
    graph: StateSpaceDecoder,
    token_ids: Tensor,
    edges: list[int],
    forget: Callable[[LayerState], LayerState] = lambda state: state,
) -> Tensor:
    """Logits of a text that comes in parts, with what a fault makes of the states between them."""
    states, found = None, []
    for start, stop in zip([0, *edges], [*edges, token_ids.shape[1]], strict=True):
        logits, states = graph(token_ids[:, start:stop], states)
        states = tuple(forget(state) for state in states)
        found.append(logits)
    return torch.cat(found, dim=1)


@torch.inference_mode()
def test_prompts_parts_and_single_tokens_equal_transformers(
    case: tuple[str, Path], token_ids: Tensor
) -> None:
    name, folder = case
    theirs, ours = oracle(name), load_mamba2(folder)
    whole = theirs(token_ids).logits
    assert whole.std() > 0.5
    torch.testing.assert_close(ours(token_ids)[0], whole, atol=TOLERANCE, rtol=0)
    for edges in ([1], [2, 3, 66], [LENGTH - 1], list(range(125, LENGTH))):
        torch.testing.assert_close(continued(ours, token_ids, edges), whole, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_single_steps_equal_theirs(tmp_path: Path, token_ids: Tensor) -> None:
    """Without limits: theirs forget `time_step_limit` in a single step, where ours keeps it."""
    theirs = oracle("shared")
    theirs.save_pretrained(tmp_path)
    ours = load_mamba2(tmp_path)
    found = theirs(token_ids[:, :20], use_cache=True)
    logits, states = ours(token_ids[:, :20])
    torch.testing.assert_close(logits, found.logits, atol=TOLERANCE, rtol=0)
    for at in range(20, 40):
        step = token_ids[:, at : at + 1]
        found = theirs(step, cache_params=found.cache_params, use_cache=True)
        logits, states = ours(step, states)
        torch.testing.assert_close(logits, found.logits, atol=TOLERANCE, rtol=0)


def _scaled(name: str, factor: float) -> Callable[[StateSpaceDecoder], None]:
    def change(graph: StateSpaceDecoder) -> None:
        dict(graph.named_parameters())[f"layers.1.mixer.{name}"].mul_(factor)

    return change


def _one_norm_group(graph: StateSpaceDecoder) -> None:
    for module in graph.modules():
        if type(module).__name__ == "GatedGroupNorm":
            module.num_groups = 1


def _no_past(graph: StateSpaceDecoder) -> None:
    dict(graph.named_parameters())["layers.1.mixer.conv.weight"][..., :-1] = 0


FAULTS = {
    "skip": _scaled("skip", 0.0),
    "rate": _scaled("log_rate", 0.5),
    "steps": _scaled("step_offset", 0.5),
    "norm": _scaled("norm.weight", 1.1),
    "groups of the norm": _one_norm_group,
    "convolution": _no_past,
}


@torch.inference_mode()
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(tmp_path: Path, token_ids: Tensor, fault: str) -> None:
    theirs = oracle("shared")
    theirs.save_pretrained(tmp_path)
    ours = load_mamba2(tmp_path)
    ours.load_state_dict({key: tensor.clone() for key, tensor in ours.state_dict().items()}, assign=True)
    FAULTS[fault](ours)
    assert (ours(token_ids)[0] - theirs(token_ids).logits).abs().max() > 50 * TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("lost", ["conv_tail", "mixer"])
def test_a_state_that_is_lost_is_noticed(tmp_path: Path, token_ids: Tensor, lost: str) -> None:
    theirs = oracle("shared")
    theirs.save_pretrained(tmp_path)

    def forget(state: LayerState) -> LayerState:
        if lost == "conv_tail":
            return replace(state, conv_tail=torch.zeros_like(state.conv_tail))
        return replace(state, mixer=replace(state.mixer, matrix=torch.zeros_like(state.mixer.matrix)))

    found = continued(load_mamba2(tmp_path), token_ids, [70], forget)
    assert (found - theirs(token_ids).logits).abs().max() > 50 * TOLERANCE


def test_serving_refuses_it_by_name(case: tuple[str, Path]) -> None:
    with pytest.raises(UnsupportedArchitecture, match="Mamba2ForCausalLM"):
        load(case[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"expand": 3},
        {"n_groups": 3},
        {"time_step_limit": [0.5]},
        {"time_step_limit": [0.5, 0.1]},
        {"time_step_limit": [0.0, True]},
        {"a_new_idea": 1},
        {"architectures": ["LlamaForCausalLM"]},
    ],
)
def test_configs_that_say_otherwise_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    oracle("shared").save_pretrained(tmp_path)
    place = tmp_path / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))
    with pytest.raises(UnsupportedConfig):
        load_mamba2(tmp_path)


def test_tokens_and_states_that_do_not_fit_are_refused(case: tuple[str, Path]) -> None:
    graph = load_mamba2(case[1])
    _, states = graph(torch.tensor([[1, 2]]))
    with pytest.raises(EmptyInput):
        graph(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(InputError, match="outside"):
        graph(torch.tensor([[61]]))
    with pytest.raises(InputError, match="layers"):
        graph(torch.tensor([[1]]), states[:2])


def test_bfloat16_runs_with_states_in_float32(case: tuple[str, Path]) -> None:
    logits, states = load_mamba2(case[1], dtype="bfloat16")(torch.tensor([[1, 2, 3]]))
    assert logits.dtype == torch.bfloat16
    assert states[0].mixer.matrix.dtype == torch.float32
