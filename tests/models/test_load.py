"""A folder becomes a model, or one clear error; each spelling of a config means the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import cynosure
from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    UnknownOption,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.models.brand import ModelKind
from cynosure.models.load import LanguageModel, load
from tests.models.decoder_oracle import TOLERANCE, Pair, gap, logits_of, pair_of

Config = dict[str, object]
Tensors = dict[str, Tensor]


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """Copy the files of a case, to be changed."""

    def made(name: str) -> Path:
        return Path(shutil.copytree(pair_of(name).folder, tmp_path / name))

    return made


def rewrite_config(folder: Path, **changes: object) -> None:
    """Set keys of config.json; `...` takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def rewrite_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


def error_of(model: LanguageModel, pair: Pair) -> float:
    with torch.no_grad():
        return gap(logits_of(model.graph, pair.prompts[0]), pair.expected[0])


def test_what_a_model_knows_of_itself(copy: Callable[[str], Path]) -> None:
    folder = copy("llama-tied")
    model = cynosure.load(folder)
    assert (model.kind, model.architecture) == (ModelKind.DECODER, "LlamaForCausalLM")
    assert model.dtype is torch.float32
    assert model.tokenizer is None
    assert model.chat_template is None
    assert model.generation_defaults.pad_token_id == 0
    assert not any(parameter.requires_grad for parameter in model.graph.parameters())
    assert not model.graph.training
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    template = load(folder).chat_template
    assert template is not None
    assert template.names == ("default",)


def test_tied_weights_are_one_tensor() -> None:
    assert pair_of("llama-tied").graph.head.weight is pair_of("llama-tied").graph.embed.weight
    assert pair_of("llama").graph.head.weight is not pair_of("llama").graph.embed.weight


def lies_in(tensor: Tensor, file: Path) -> bool:
    """Whether a tensor's memory belongs to a map of `file`."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, stop = line.split(maxsplit=1)[0].partition("-")
        if int(start, 16) <= tensor.data_ptr() < int(stop, 16):
            return line.endswith(str(file))
    return False


def test_a_kept_dtype_stays_a_view_of_the_file() -> None:
    """Weights that need no change take no memory of their own: they lie where the file is mapped."""
    folder = pair_of("llama-tied").folder
    dtypes = ("keep", "bfloat16")
    kept, changed = (load(folder, dtype=name).graph.get_parameter("embed.weight") for name in dtypes)
    assert lies_in(kept, folder / "model.safetensors")
    assert not lies_in(changed, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2", "bloom"])
def test_bfloat16_stays_near(name: str) -> None:
    """Between rounding, which it must show, and a fault, which it must not."""
    pair = pair_of(name)
    model = load(pair.folder, dtype="bfloat16")
    with torch.no_grad():
        ours = logits_of(model.graph, pair.prompts[1])
    assert ours.dtype is torch.bfloat16
    assert 1e-4 < gap(ours.float(), pair.expected[1]) < 0.15


def test_an_unknown_architecture_is_named_beside_those_we_have(copy: Callable[[str], Path]) -> None:
    folder = copy("llama")
    rewrite_config(folder, architectures=["MambaForCausalLM"])
    with pytest.raises(UnsupportedArchitecture, match=r"'MambaForCausalLM' is not served.*Qwen3"):
        load(folder)


@pytest.mark.parametrize("option", ["dtype", "backend"])
def test_an_unknown_option_is_refused(option: str) -> None:
    with pytest.raises(UnknownOption, match="'nonsense'"):
        load(pair_of("llama").folder, **{option: "nonsense"})


def test_an_absent_folder_is_refused() -> None:
    with pytest.raises(CheckpointNotFound):
        load("/nowhere/at/all")


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("llama", {"hidden_act": "relu6"}, "hidden_act = 'relu6'"),
        ("llama", {"use_mystery": True}, "use_mystery = True"),
        ("llama", {"vocab_size": ...}, "lacks vocab_size"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads|num_kv_heads"),
        ("llama-tied", {"head_dim": ..., "num_attention_heads": 6}, "head_dim can't be derived"),
        ("qwen2", {"layer_types": ["full_attention"]}, "lists 1 layer_types"),
        ("qwen2", {"layer_types": ["chunked_attention"] * 3}, "chunked_attention"),
        ("qwen2", {"use_sliding_window": False}, "sliding_window = None"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gpt2", {"n_head": 5}, "no multiple of n_head = 5"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection"),
        ("bloom", {"slow_but_exact": True}, "slow_but_exact"),
        ("bloom", {"n_head": 7}, "no multiple of its 7 heads"),
    ],
)
def test_what_would_change_the_maths_is_named(
    copy: Callable[[str], Path], name: str, change: Config, named: str
) -> None:
    folder = copy(name)
    rewrite_config(folder, **change)
    with pytest.raises(UnsupportedConfig, match=named):
        load(folder)


def test_more_than_the_checkpoint_reaches_is_refused() -> None:
    with pytest.raises(UnsupportedConfig, match="max_model_len is 200; the checkpoint reaches 128"):
        load(pair_of("llama").folder, max_model_len=200)
    assert load(pair_of("bloom").folder, max_model_len=9000).spec.max_model_len == 9000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model.layers.1.mlp.up_proj.weight": None}, "lacks 1 tensors .layers.1.mlp.up.weight"),
        ({"model.layers.0.extra.weight": torch.ones(2)}, "model.layers.0.extra.weight"),
        ({"model.layers.7.mlp.up_proj.weight": torch.ones(2)}, "layers.7.mlp.up.weight"),
        ({"model.norm.weight": torch.ones(3)}, r"norm.weight has shape \(3,\)"),
        ({"model.norm.weight": torch.full((64,), float("nan"))}, "norm.weight holds NaN"),
        ({"lm_head.weight": torch.ones(199, 64)}, "the config ties them"),
    ],
)
def test_damaged_weights_are_named(
    copy: Callable[[str], Path], change: dict[str, Tensor | None], named: str
) -> None:
    folder = copy("llama-tied")
    rewrite_weights(folder, lambda tensors: {k: v for k, v in (tensors | change).items() if v is not None})
    with pytest.raises(CheckpointCorrupt, match=named):
        load(folder)


def test_early_gpt2_files_load(copy: Callable[[str], Path]) -> None:
    """They have no prefix, hold the causal mask as a buffer, and repeat the tied head."""
    folder = copy("gpt2")

    def early(tensors: Tensors) -> Tensors:
        named = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 4, 4) for layer in range(3)}
        return {**named, **masks, "lm_head.weight": named["wte.weight"].clone()}

    rewrite_weights(folder, early)
    rewrite_config(folder, n_ctx=96)
    assert error_of(load(folder), pair_of("gpt2")) <= TOLERANCE


OLD_SPELLINGS: list[tuple[str, Config]] = [
    ("llama", {"rope_parameters": ..., "rope_theta": 500.0}),
    (
        "llama-linear",
        {"rope_parameters": ..., "rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 3.0}},
    ),
    ("qwen2", {"layer_types": ..., "rope_parameters": ..., "rope_theta": 500.0}),
    (
        "gemma2",
        {"layer_types": ..., "hidden_act": "gelu", "rope_parameters": ..., "rope_theta": 500.0},
    ),
    (
        "gemma3",
        {
            "rope_parameters": ...,
            "rope_theta": 5000.0,
            "rope_local_base_freq": 50.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
    ),
    (
        "bloom",
        {"hidden_size": ..., "n_embed": 72, "n_head": ..., "num_attention_heads": 6, "seq_length": 2048},
    ),
]


@pytest.mark.parametrize(("name", "spelling"), OLD_SPELLINGS)
def test_older_configs_mean_the_same(copy: Callable[[str], Path], name: str, spelling: Config) -> None:
    folder = copy(name)
    rewrite_config(folder, **spelling)
    assert error_of(load(folder), pair_of(name)) <= TOLERANCE


def test_gemma3_places_its_wide_layers_by_a_pattern(copy: Callable[[str], Path]) -> None:
    folder = copy("gemma3")
    rewrite_config(folder, layer_types=..., sliding_window_pattern=2, _sliding_window_pattern=...)
    assert error_of(load(folder), pair_of("gemma3")) <= TOLERANCE
