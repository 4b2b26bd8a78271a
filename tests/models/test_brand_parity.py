"""Every later brand of decoders equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import UnsupportedConfig
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.kernels import why_none
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.decoder import Decoder
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from tests.models import brand_mutants, decoder_mutants
from tests.models.brand_cases import CASES
from tests.models.brand_mutants import FAULTS
from tests.models.brand_oracle import FIRST, MATHS, engine, errors_of, pair_of
from tests.models.decoder_oracle import TOLERANCE, gap, logits_of, peakedness

#: Brands whose published graph rotates whole heads, whatever their config says.
WHOLLY_ROTARY = (
    *("mixtral", "olmoe", "qwen2-moe", "olmo2", "smollm3", "granite", "starcoder2", "falcon-7b", "cohere2"),
    *("exaone4", "ernie", "helium", "seed-oss", "llama4", "minicpm3", "diffllama", "cohere", "gemma", "olmo"),
)
#: Why a layer is not served whole by kernels, where it has arithmetic that they do not know.
KERNELS_REFUSE = {
    **dict.fromkeys(("olmo2", "olmo3", "exaone4", "exaone4-no-windows"), "no norm before them"),
    **dict.fromkeys(("granite", "granite-moe", "minicpm3"), "scaled before they are added"),
    **dict.fromkeys(("mpt-clipped", "olmo-clipped"), "clipped"),
    **dict.fromkeys(("hunyuan", "hunyuan-biases"), "behind the rotation"),
    **dict.fromkeys(("ministral3", "ministral3-window"), "grow with their positions"),
    **dict.fromkeys(("gemma3n", "gemma3n-second-active"), "several vectors"),
    **dict.fromkeys(("diffllama", "diffllama-biases"), "DifferentialAttention"),
    **dict.fromkeys(
        ("gpt-neox", "falcon-7b", "falcon-40b", "falcon-11b", "cohere", "cohere2", "phi", "gptj"),
        "parallel",
    ),
}


YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    pair = pair_of(name)
    errors = errors_of(pair) if name in FIRST else errors_of(pair, MATHS)
    assert max(errors.values()) <= TOLERANCE, errors
    assert 0.05 < peakedness(pair) < 0.75, "attention is nearly uniform, and hides wrong scores"


@pytest.mark.parametrize("name", CASES)
def test_faults_are_noticed(name: str) -> None:
    pair = pair_of(name)
    for fault in FAULTS[name]:
        broken = decoder_mutants.mutant(pair.graph, fault, brand_mutants.SPEC_CHANGES)
        difference = gap(logits_of(broken, pair.prompts[0]), pair.expected[0])
        assert difference > 10 * TOLERANCE, fault


def test_every_case_and_every_fault_is_used() -> None:
    assert FAULTS.keys() == CASES.keys()
    own = {*brand_mutants.SPEC_CHANGES, *decoder_mutants.LATER_WEIGHT_CHANGES}
    assert set().union(*FAULTS.values()) >= own


@pytest.mark.parametrize("name", CASES)
def test_the_pool_codes_and_kernels_take_every_brand(name: str) -> None:
    """A card before any weight is read; weights in eight bits; kernels, or a reason for each part without."""
    pair, prompt = pair_of(name), pair_of(name).prompts[1]
    card = describe(ServedModel("tiny", str(pair.folder), dtype="float32")).card
    held = [*pair.graph.parameters(), *pair.graph.buffers()]
    assert card.weight_bytes == sum(tensor.numel() * 4 for tensor in held)
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, Decoder)
    ours, plain = logits_of(coded, prompt), logits_of(pair.graph, prompt)
    assert 1e-4 < float((ours - plain).norm() / plain.norm()) < 0.2
    if not why_none():
        report = use_kernels(copy.deepcopy(pair.graph), torch.float32, "native")
        assert report.num_native > 0
        twin = replace(pair, model=replace(pair.model, graph=copy.deepcopy(pair.graph)))
        assert engine(twin, kernels="native") <= TOLERANCE
        assert KERNELS_REFUSE.get(name, "") in report.refused.get(
            "layers.0.attention", report.refused.get("layers.0", "")
        )


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_key_is_refused_by_name(name: str) -> None:
    pair = pair_of(name)
    brand = brand_of(CASES[name].architecture)
    config = {**read_config(pair.folder), "attention_twist": 0.5}
    with pytest.raises(UnsupportedConfig, match="attention_twist"):
        brand.parse(ConfigReader(config))


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("mixtral", {"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ("qwen2-moe", {"sliding_window": 0}, "sliding_window"),
        ("qwen3-moe", {"num_experts": 5, "num_local_experts": 6}, "num_local_experts"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv"),
        ("olmoe", {"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ("olmoe", {"sliding_window": 9}, "sliding_window"),
        ("olmo3", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "rope_parameters"),
        ("olmo3", {"layer_types": ["sliding_attention"]}, "layer_types"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ("starcoder2", {"mlp_type": "gated"}, "mlp_type"),
        *((name, {"partial_rotary_factor": 0.5}, "partial_rotary_factor") for name in WHOLLY_ROTARY),
        ("gpt-neox", {"num_attention_heads": 5}, "5 heads"),
        ("falcon-7b", {"alibi": True}, "alibi"),
        ("falcon-7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
        ("falcon-40b", {"parallel_attn": False}, "parallel_attn"),
        ("cohere2", {"use_qk_norm": True}, "use_qk_norm"),
        ("cohere2", {"sliding_window": None, "layer_types": ["global"] * 3}, "layer_types"),
        ("gpt-bigcode", {"num_key_value_heads": 4}, "num_key_value_heads"),
        ("mpt", {"attn_config": {"alibi": False}}, "alibi"),
        ("mpt", {"attn_config": {"qk_ln": True}}, "qk_ln"),
        ("mpt", {"attn_config": {"twist": 2}}, "twist"),
        ("mpt", {"expansion_ratio": 3}, "expansion_ratio"),
        ("mpt", {"no_bias": False}, "no_bias"),
        ("mpt", {"logit_scale": 0.5}, "logit_scale"),
        ("exaone4", {"sliding_window": None}, "sliding_window"),
        ("exaone4", {"layer_types": None, "sliding_window_pattern": "LLLG"}, "sliding_window_pattern"),
        ("exaone4", {"attention_bias": True}, "attention_bias"),
        ("ernie", {"sliding_window": 9}, "sliding_window"),
        ("ernie", {"mlp_bias": True}, "mlp_bias"),
        ("helium", {"attention_out_bias": True}, "attention_out_bias"),
        ("seed-oss", {"sliding_window": 9}, "sliding_window"),
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm"),
        ("stablelm", {"num_key_value_heads": None}, "32 heads"),
        ("gptj", {"rotary": False}, "rotary"),
        ("gptj", {"rotary_dim": 18}, "rotary_dim"),
        ("gptj", {"rotary_dim": 5}, "rotary_dim"),
        ("gptj", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before"),
        ("opt", {"word_embed_proj_dim": 32}, "word_embed_proj_dim"),
        ("opt", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
        ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
        ("phi", {"qk_layernorm": True}, "qk_layernorm"),
        ("phi", {"num_key_value_heads": 3}, "3 heads"),
        ("llama4", {"layer_types": ["sliding_attention"] * 3}, "sliding_attention"),
        ("llama4", {"attention_chunk_size": None}, "attention_chunk_size"),
        ("llama4", {"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ("llama4", {"head_dim": None}, "head_dim"),
        ("llama4", {"no_rope_layers": [1, 2, 1]}, "no_rope_layers"),
        ("llama4", {"rope_parameters": YARN}, "use_qk_norm"),
        ("llama4", {"for_llm_compressor": True}, "for_llm_compressor"),
        ("minicpm3", {"num_key_value_heads": 2}, "num_key_value_heads"),
        ("minicpm3", {"scale_depth": None}, "scale_depth"),
        ("minicpm3", {"hidden_size": 66, "v_head_dim": None}, "v_head_dim"),
        ("deepseek-v32", {"q_lora_rank": None}, "q_lora_rank"),
        ("deepseek-v32", {"index_head_dim": 6}, "index_head_dim"),
        ("deepseek-v32", {"mlp_layer_types": ["sparse", "dense"]}, "mlp_layer_types"),
        ("deepseek-v32", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("deepseek-v32", {"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ("deepseek-v2", {"topk_method": "noaux_tc"}, "topk_method"),
        ("deepseek-v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek-v2", {"n_group": 5}, "n_group"),
        ("deepseek-v2", {"num_experts_per_tok": 7}, "num_experts_per_tok"),
        ("gemma", {"hidden_activation": "relu"}, "hidden_activation"),
        ("gemma", {"hidden_act": "silu"}, "hidden_act"),
        ("gemma", {"head_dim": None}, "head_dim"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("olmo", {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ("hunyuan", {"use_cla": True}, "use_cla"),
        ("hunyuan", {"use_qk_norm": False}, "use_qk_norm"),
        ("hunyuan", {"attention_head_dim": 16}, "attention_head_dim"),
        ("hunyuan", {"rope_parameters": {"rope_type": "linear", "alpha": 9.0}}, "rope_type"),
        ("ministral", {"layer_types": ["chunked_attention"] * 2}, "layer_types"),
        ("ministral3", {"rope_parameters": None}, "rope_parameters"),
        ("ministral3", {"head_dim": None}, "head_dim"),
        ("ministral3", {"rope_parameters": YARN}, "llama_4_scaling_beta"),
        ("ministral3-window", {"max_position_embeddings": 64}, "max_position_embeddings"),
        ("diffllama", {"num_key_value_heads": 1}, "num_key_value_heads"),
        ("diffllama", {"sliding_window": 9}, "sliding_window"),
        ("gemma3n", {"num_kv_shared_layers": 4}, "num_kv_shared_layers"),
        ("gemma3n", {"altup_active_idx": 3}, "altup_active_idx"),
        ("gemma3n", {"intermediate_size": [96, 96]}, "intermediate_size"),
        (
            "gemma3n",
            {"activation_sparsity_pattern": [1.0, 0.0, 0.0, 0.0, 0.0]},
            "activation_sparsity_pattern",
        ),
        ("gemma3n", {"layer_types": ["chunked_attention"] * 5}, "layer_types"),
        ("arcee", {"is_gated": True}, "is_gated"),
        ("nemotron", {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
        ("cohere", {"use_qk_norm": True}, "use_qk_norm"),
        ("cohere", {"rope_parameters": None}, "rope_theta"),
        ("glm4-moe", {"scoring_func": "softmax"}, "scoring_func"),
        ("glm4-moe", {"n_group": 5}, "n_group"),
        ("granite-moe", {"num_experts_per_tok": 7}, "num_experts_per_tok"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    name: str, changed: dict[str, object], named: str
) -> None:
    config = {**read_config(pair_of(name).folder), **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        brand_of(CASES[name].architecture).parse(ConfigReader(config))


OLD_ROPE = {"rope_parameters": None, "rope_theta": 500.0, "rope_scaling": None}


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("mixtral", {**OLD_ROPE, "rms_norm_eps": None, "router_jitter_noise": 0.1}),
        ("qwen2-moe", {**OLD_ROPE, "qkv_bias": None}),
        ("qwen3-moe", {**OLD_ROPE, "num_local_experts": None, "num_experts": 6, "max_window_layers": 48}),
        ("olmoe", {**OLD_ROPE, "rms_norm_eps": None, "clip_qkv": None, "norm_topk_prob": None}),
        (
            "olmo3",
            {
                "rms_norm_eps": None,
                "rope_parameters": None,
                "rope_theta": 500.0,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 8.0,
                    "original_max_position_embeddings": 16,
                    "beta_fast": 4.0,
                },
            },
        ),
        ("smollm3", {**OLD_ROPE, "max_window_layers": 28, "pretraining_tp": 2}),
        (
            "starcoder2",
            {**OLD_ROPE, "mlp_type": "default", "norm_type": "layer_norm", "scale_attn_weights": True},
        ),
        ("gpt-neox", {"rope_parameters": None, "rotary_pct": 0.5, "rotary_emb_base": 500}),
        ("falcon-7b", {**OLD_ROPE, "num_kv_heads": None, "apply_residual_connection_post_layernorm": False}),
        ("cohere2", {**OLD_ROPE, "layer_types": None, "sliding_window_pattern": 2, "layer_switch": 2}),
        ("glm4", {**OLD_ROPE, "partial_rotary_factor": 0.5}),
        ("glm", OLD_ROPE),
        (
            "opt",
            {
                "do_layer_norm_before": None,
                "word_embed_proj_dim": None,
                "enable_bias": None,
                "layerdrop": 0.1,
                "activation_dropout": 0.1,
            },
        ),
        ("exaone4", {**OLD_ROPE, "rms_norm_eps": None, "sliding_window_pattern": "LG"}),
        ("exaone4", {**OLD_ROPE, "layer_types": None, "sliding_window_pattern": 2}),
        ("exaone4-no-windows", {"layer_types": None, "sliding_window_pattern": None}),
        ("ernie", {**OLD_ROPE, "rms_norm_eps": None, "tie_word_embeddings": None, "use_bias": None}),
        ("helium", {**OLD_ROPE, "rms_norm_eps": None, "attention_bias": None, "mlp_bias": None}),
        (
            "seed-oss",
            {**OLD_ROPE, "rms_norm_eps": None, "attention_bias": None, "attention_out_bias": None},
        ),
        (
            "stablelm",
            {**OLD_ROPE, "partial_rotary_factor": 0.5, "use_parallel_residual": None, "layer_norm_eps": None},
        ),
        ("gptj", {"rotary": True, "scale_attn_weights": True, "n_inner": None, "summary_use_proj": True}),
        ("phi", {**OLD_ROPE, "partial_rotary_factor": 0.5, "resid_pdrop": 0.1}),
        ("llama4", {**OLD_ROPE, "rms_norm_eps": None, "use_qk_norm": None, "for_llm_compressor": False}),
        ("llama4-no-norms", {"no_rope_layers": [], "moe_layers": None, "layer_types": None}),
        ("minicpm3", {**OLD_ROPE, "qk_head_dim": None, "head_dim": None, "rms_norm_eps": None}),
        ("minicpm3-dense-queries", {"v_head_dim": None, "mlp_bias": None}),
        ("deepseek-v32", {"mlp_layer_types": None, "first_k_dense_replace": 1, "layer_types": None}),
        ("deepseek-v32", {**OLD_ROPE, "rope_interleave": True, "scoring_func": "sigmoid", "mlp_bias": None}),
        ("deepseek-v2-lite", {**OLD_ROPE, "topk_method": "greedy", "n_group": 1, "topk_group": 1}),
        ("gemma", {**OLD_ROPE, "hidden_act": "gelu", "hidden_activation": None}),
        ("olmo", {**OLD_ROPE, "clip_qkv": None, "hidden_act": None}),
        (
            "hunyuan",
            {
                "rope_parameters": None,
                "rope_theta": 500.0,
                "rope_scaling": {
                    **{"type": "dynamic", "alpha": 9.0, "factor": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0},
                    **{"beta_fast": 32, "beta_slow": 1},
                },
                "attention_head_dim": 24,
                "use_qk_norm": True,
                "use_cla": False,
                "cla_share_factor": 2,
            },
        ),
        ("ministral", {**OLD_ROPE, "attention_dropout": 0.1}),
        ("diffllama", {**OLD_ROPE, "rms_norm_eps": None, "lambda_std_dev": 0.2}),
        ("gemma3n", {"altup_coef_clip": 1.0, "altup_correct_scale": None, "rms_norm_eps": 1e-5}),
        ("arcee", {**OLD_ROPE, "rms_norm_eps": None, "hidden_act": None, "mlp_bias": None}),
        ("nemotron", {**OLD_ROPE, "norm_eps": None, "hidden_act": None, "partial_rotary_factor": 0.5}),
        ("cohere", {**OLD_ROPE, "layer_norm_eps": None, "use_qk_norm": None, "tie_word_embeddings": None}),
        ("glm4-moe", {**OLD_ROPE, "partial_rotary_factor": 0.5, "num_nextn_predict_layers": 1}),
        ("granite-moe", OLD_ROPE),
        ("gpt-bigcode", {"num_key_value_heads": None, "inference_runner": 0, "summary_type": "cls_index"}),
        (
            "mpt",
            {
                "attn_config": {"alibi": True, "attn_impl": "triton"},
                "init_config": {"name": "k"},
                "verbose": 0,
            },
        ),
    ],
)
def test_an_older_spelling_means_the_same(name: str, spelled: dict[str, object]) -> None:
    brand, config = brand_of(CASES[name].architecture), read_config(pair_of(name).folder)
    assert brand.parse(ConfigReader({**config, **spelled})) == brand.parse(ConfigReader(config))


@pytest.mark.parametrize(
    ("name", "theta"), [("ernie", 5e5), ("helium", 1e5), ("seed-oss", 1e4), ("mixtral", 1e6), ("olmoe", 1e4)]
)
def test_an_absent_base_is_that_of_the_published_graph(name: str, theta: float) -> None:
    config = {**read_config(pair_of(name).folder), "rope_parameters": None}
    brand = brand_of(CASES[name].architecture)
    stated = {**config, "rope_theta": theta}
    assert brand.parse(ConfigReader(config)) == brand.parse(ConfigReader(stated))


@pytest.mark.parametrize(("name", "share"), [("phi", 0.5), ("stablelm", 0.25)])
def test_an_absent_share_is_that_of_the_published_graph(name: str, share: float) -> None:
    config = {**read_config(pair_of(name).folder), **OLD_ROPE}
    brand = brand_of(CASES[name].architecture)
    stated = {**config, "partial_rotary_factor": share}
    assert brand.parse(ConfigReader(config)) == brand.parse(ConfigReader(stated))


def test_exaones_say_whether_there_is_a_window() -> None:
    config = read_config(pair_of("exaone4-no-windows").folder)
    config = {key: value for key, value in config.items() if key != "sliding_window"}
    brand = brand_of("Exaone4ForCausalLM")
    assert brand.parse(ConfigReader({**config, "sliding_window": None}))
    with pytest.raises(UnsupportedConfig, match="lacks sliding_window"):
        brand.parse(ConfigReader(config))


def test_falcons_that_say_no_length_have_the_first_one_s() -> None:
    config = {**read_config(pair_of("falcon-7b").folder), "max_position_embeddings": None}
    assert brand_of("FalconForCausalLM").parse(ConfigReader(config)).max_model_len == 2048
