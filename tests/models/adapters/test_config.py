"""An adapter's config is read in full, and what is not served is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, UnsupportedConfig
from cynosure.models.adapters.config import CONFIG, LoraConfig, parse_lora_config, read_lora_config
from cynosure.models.config_reader import ConfigReader

OK: dict[str, Any] = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def parse(**changes: object) -> LoraConfig:
    return parse_lora_config(ConfigReader(OK | changes, "the config"))


def test_scales() -> None:
    assert parse().scale_of("model.layers.0.q_proj") == 2.0
    assert parse(use_rslora=True).scale_of("q_proj") == pytest.approx(16 / 8**0.5)
    given = parse(rank_pattern={"q_proj": 4, "mlp.up_proj": 2}, alpha_pattern={"up_proj": 3})
    assert (given.rank_of("layers.0.q_proj"), given.scale_of("layers.0.q_proj")) == (4, 4.0)
    assert (given.rank_of("layers.0.mlp.up_proj"), given.scale_of("layers.0.mlp.up_proj")) == (2, 1.5)
    assert (given.rank_of("a.other"), given.scale_of("a.other")) == (8, 2.0)
    # The end of a name counts in whole parts.
    assert given.rank_of("layers.0.xq_proj") == 8


def test_targets() -> None:
    assert parse().is_target("model.layers.0.self_attn.q_proj")
    assert parse().is_target("q_proj")
    assert not parse().is_target("model.layers.0.self_attn.xq_proj")
    assert parse(target_modules="all-linear").is_target("anything")
    by_pattern = parse(target_modules=r".*\.1\..*q_proj")
    assert by_pattern.is_target("model.layers.1.self_attn.q_proj")
    assert not by_pattern.is_target("model.layers.1.self_attn.q_proj.more")


def test_what_peft_writes_by_default_is_read(tmp_path: Path) -> None:
    """Every key of the installed version, with the values that it gives them."""
    written = peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    assert {key for key, value in written.items() if value is not None} > {"use_dora", "loftq_config", "bias"}
    (tmp_path / CONFIG).write_text(json.dumps(written, default=list))
    assert read_lora_config(tmp_path).rank == 8


def test_what_is_empty_is_nothing() -> None:
    assert parse(target_parameters=[], modules_to_save=[], rank_pattern={}, exclude_modules=None) == parse()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA'; only LORA"),
        ({"peft_type": None}, "lacks peft_type"),
        ({"task_type": "SEQ_CLS"}, "task_type = 'SEQ_CLS'"),
        ({"use_dora": True}, "use_dora = True; only False"),
        ({"bias": "all"}, "bias = 'all'; only 'none'"),
        ({"lora_bias": True}, "lora_bias = True"),
        ({"use_qalora": True}, "use_qalora = True"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights = 'loftq'"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "layers that are repeated are not served"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "trainable_token_indices"),
        ({"target_parameters": ["experts.up"]}, "target_parameters"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"megatron_config": {"x": 1}}, "megatron_config"),
        ({"a_new_idea": 1}, "a_new_idea = 1: not understood"),
        ({"r": 0}, "r = 0; it must be > 0"),
        ({"r": 1.5}, "r = 1.5, a float"),
        ({"r": True}, "a bool"),
        ({"lora_alpha": "x"}, "lora_alpha = 'x'"),
        ({"lora_alpha": float("inf")}, "must be finite"),
        ({"target_modules": None}, "names no target_modules"),
        ({"target_modules": []}, "names no target_modules"),
        ({"target_modules": [1]}, r"target_modules\[0\] = 1"),
        ({"target_modules": "("}, "no pattern"),
        ({"target_modules": "(a|a)*b"}, "no repeated group"),
        ({"target_modules": ".*.*.*.*.*b"}, "4 repeats"),
        ({"target_modules": "a" * 201}, "200 characters"),
        ({"rank_pattern": {"q_proj": 0}}, "the rank 0"),
        ({"rank_pattern": {"(x+)+": 2}}, "no repeated group"),
        ({"alpha_pattern": {"q_proj": True}}, "the alpha True"),
        ({"alpha_pattern": {"q_proj": float("nan")}}, "the alpha nan"),
        ({"use_rslora": "yes"}, "use_rslora = 'yes'"),
    ],
)
def test_what_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        parse(**changes)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="save_pretrained"):
        read_lora_config(tmp_path)
    for text in ("", "[]", '{"r": 1, "r": 2}', "{" * 10_000):
        (tmp_path / CONFIG).write_text(text)
        with pytest.raises(CheckpointCorrupt):
            read_lora_config(tmp_path)


def test_a_config_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().rank = 3  # type: ignore[misc]
