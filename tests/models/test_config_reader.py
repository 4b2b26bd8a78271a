"""Test the strict reading of configs. Knows nothing of any family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.models.config_reader import ConfigReader, architecture_of, read_config
from cynosure.models.inert_keys import INERT_KEYS, NEUTRAL_VALUES


def test_take_gives_typed_values() -> None:
    reader = ConfigReader(
        {"n": 3, "x": 10000, "b": False, "s": "silu", "types": ["full", "sliding"], "null": None}
    )
    assert reader.take("n", int, positive=True) == 3
    theta = reader.take("x", float)
    assert isinstance(theta, float)
    assert theta == 10000.0
    assert reader.take("b", bool) is False
    assert reader.take("s", str) == "silu"
    assert reader.take_list("types", str) == ("full", "sliding")
    assert reader.take("null", int, None) is None
    assert reader.take("null", int, 7) == 7
    assert reader.take("absent", float, 0.5) == 0.5
    assert reader.take_list("absent", str, ("x",)) == ("x",)
    assert "null" in reader
    assert "absent" not in reader
    reader.finish()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (1.0, int),
        ("1", int),
        ("1", float),
        (1, str),
        ({}, list),
        ([], dict),
        (float("inf"), float),
        (float("nan"), float),
        (10**400, float),
    ],
)
def test_take_refuses_another_type(value: object, kind: type) -> None:
    with pytest.raises(UnsupportedConfig, match=r"config\.json has key ="):
        ConfigReader({"key": value}).take("key", kind)


@pytest.mark.parametrize(("value", "kind"), [(0, int), (-1, int), (0.0, float), (-1e-9, float)])
def test_take_refuses_what_is_not_positive(value: float, kind: type) -> None:
    assert ConfigReader({"key": value}).take("key", kind) == value
    with pytest.raises(UnsupportedConfig, match="must be > 0"):
        ConfigReader({"key": value}).take("key", kind, positive=True)


def test_take_list_checks_each_item() -> None:
    with pytest.raises(UnsupportedConfig, match=r"ids\[1\] = '2'"):
        ConfigReader({"ids": [1, "2"]}).take_list("ids", int)


@pytest.mark.parametrize("values", [{}, {"hidden_size": None}])
def test_required_key(values: dict[str, None]) -> None:
    with pytest.raises(UnsupportedConfig, match="lacks hidden_size"):
        ConfigReader(values).take("hidden_size", int)


def test_expect() -> None:
    reader = ConfigReader({"act": "gelu", "flag": True})
    assert reader.expect("act", {"gelu", "silu"}) == "gelu"
    assert reader.expect("absent", {False}) is False
    assert reader.expect("absent", {"a", "b"}, "b") == "b"
    with pytest.raises(UnsupportedConfig, match="act = 'gelu'; only 'relu', 'silu' is supported"):
        reader.expect("act", {"silu", "relu"})
    with pytest.raises(UnsupportedConfig, match="absent = None"):
        reader.expect("absent", {"a", "b"})
    with pytest.raises(UnsupportedConfig, match="flag = True"):
        reader.expect("flag", {1})


def test_finish_names_every_unread_key() -> None:
    reader = ConfigReader(
        {"hidden_size": 4, "use_magic": True, "twist": 2, "nothing": None, "use_cache": False}
    )
    reader.take("hidden_size", int)
    assert reader.unread == ("twist", "use_cache", "use_magic")
    with pytest.raises(UnsupportedConfig, match="twist = 2, use_magic = True: not understood"):
        reader.finish()
    reader.ignore("twist", "use_magic")
    reader.finish()
    assert reader.ignored == ("twist", "use_cache", "use_magic")


def test_neutral_values_are_inert_alone() -> None:
    reader = ConfigReader({"pretraining_tp": 1, "is_decoder": False, "twist": 0})
    reader.ignore(neutral={"twist": 0, "absent": 1})
    reader.finish()
    with pytest.raises(UnsupportedConfig, match="pretraining_tp = 2"):
        ConfigReader({"pretraining_tp": 2}).finish()
    with pytest.raises(UnsupportedConfig, match="is_decoder = 0"):
        ConfigReader({"is_decoder": 0}).finish()
    with pytest.raises(UnsupportedConfig, match="twist = 1; only 0"):
        ConfigReader({"twist": 1}).ignore(neutral={"twist": 0})


def test_code_of_a_checkpoint_is_listed_as_ignored() -> None:
    reader = ConfigReader({"auto_map": {"AutoModel": "modeling.Model"}})
    reader.finish()
    assert reader.ignored == ("auto_map",)


def test_quantised_weights_are_not_inert() -> None:
    with pytest.raises(UnsupportedConfig, match="quantization_config"):
        ConfigReader({"quantization_config": {"quant_method": "fp8"}}).finish()


def test_sub_reader_is_finished_with_its_parent() -> None:
    reader = ConfigReader({"rope_scaling": {"rope_type": "yarn", "factor": 4, "twist": 1}, "other": None})
    rope = reader.sub("rope_scaling")
    assert rope is not None
    assert rope is reader.sub("rope_scaling")
    assert rope.expect("rope_type", {"yarn"}) == "yarn"
    assert rope.take("factor", float) == 4.0
    assert reader.sub("other") is None
    assert reader.sub("absent") is None
    with pytest.raises(UnsupportedConfig, match=r"config\.json: rope_scaling has twist = 1"):
        reader.finish()


def test_sub_reader_that_is_never_asked_for() -> None:
    with pytest.raises(UnsupportedConfig, match="rope_scaling"):
        ConfigReader({"rope_scaling": {"factor": 2}}).finish()


def test_aliases() -> None:
    aliases = {"n_embd": "hidden_size"}
    assert ConfigReader({"n_embd": 8}, aliases=aliases).take("hidden_size", int) == 8
    assert ConfigReader({"n_embd": 8, "hidden_size": 8}, aliases=aliases).take("hidden_size", int) == 8
    assert ConfigReader({"n_embd": None, "hidden_size": 8}, aliases=aliases).take("hidden_size", int) == 8
    with pytest.raises(UnsupportedConfig, match="n_embd = 8 and hidden_size = 9"):
        ConfigReader({"n_embd": 8, "hidden_size": 9}, aliases=aliases)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "1", '{"a": NaN}', '{"a": Infinity}', '{"a": 1, "a": 2}', "[" * 10**5, "\xff"]
)
def test_broken_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointCorrupt, match=r"config\.json"):
        read_config(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize("names", [None, [], ["A", "B"], "A", [1]])
def test_architecture_must_be_one_name(names: object) -> None:
    assert architecture_of({"architectures": ["A"]}) == "A"
    with pytest.raises(UnsupportedArchitecture, match="exactly one name"):
        architecture_of({"architectures": names})


FAMILIES = [
    *("GPT2", "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3Text", "Phi3", "GptOss", "DeepseekV3"),
    *("Bloom", "Bert", "ModernBert", "T5"),
]

# What shapes the maths of at least one family, so that no list may let it pass unread.
_SHAPING = (
    "_sliding_window_pattern activation_function apply_residual_connection_post_layernorm attention_bias "
    "attn_logit_softcapping classifier_activation classifier_bias classifier_pooling d_ff d_kv d_model "
    "decoder_bias dense_act_fn feed_forward_proj final_logit_softcapping first_k_dense_replace head_dim "
    "hidden_act hidden_activation hidden_size intermediate_size is_gated_act kv_lora_rank layer_norm_eps "
    "layer_norm_epsilon layer_types local_attention max_position_embeddings max_window_layers mlp_bias "
    "moe_intermediate_size n_embd n_group n_head n_inner n_layer n_positions n_routed_experts "
    "n_shared_experts norm_bias norm_eps norm_topk_prob num_attention_heads num_decoder_layers "
    "num_experts_per_tok num_heads num_hidden_layers num_key_value_heads num_layers num_local_experts "
    "num_nextn_predict_layers original_max_position_embeddings q_lora_rank qk_head_dim qk_nope_head_dim "
    "qk_rope_head_dim query_pre_attn_scalar relative_attention_max_distance relative_attention_num_buckets "
    "reorder_and_upcast_attn rms_norm_eps rope_interleave rope_parameters routed_scaling_factor "
    "scale_attn_by_inverse_layer_idx scale_attn_weights scale_decoder_outputs sliding_window "
    "slow_but_exact sparse_prediction summary_activation summary_proj_to_labels summary_type "
    "summary_use_proj swiglu_alpha swiglu_limit tie_word_embeddings topk_group type_vocab_size "
    "use_bidirectional_attention use_sliding_window v_head_dim vocab_size"
)
SHAPING = frozenset(_SHAPING.split())


def test_no_inert_key_shapes_the_maths() -> None:
    assert SHAPING & (INERT_KEYS | NEUTRAL_VALUES.keys()) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_oracle_writes_is_inert_or_shaping(family: str, tmp_path: Path) -> None:
    config = getattr(transformers, f"{family}Config")(architectures=["X"], torch_dtype="float32")
    config.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    if family == "T5":
        values.pop("is_encoder_decoder")
    reader = ConfigReader(values)
    reader.ignore(*SHAPING)
    reader.finish()
    assert len(reader.ignored) > 10
