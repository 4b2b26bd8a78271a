"""Tiny decoders with mixtures of experts, compared with transformers on the same files. Runs no maths itself.

The checks are those of `decoder_oracle`; here the routers are sharpened and their corrections are not zero.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch
import transformers

from cynosure.attention.mla import MlaReading
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.load import load
from cynosure.models.mla_attention import MlaSpec
from tests.models.decoder_cases import VOCAB, Case
from tests.models.decoder_oracle import CHECKS, Pair, errors_of, randomise

_SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 4.0,
}
_GPT_OSS = {"num_key_value_heads": 2, "head_dim": 24, "num_local_experts": 6, "num_experts_per_tok": 3}
_DEEPSEEK = {
    "num_key_value_heads": 4,
    "n_routed_experts": 12,
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 4,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 24,
    "routed_scaling_factor": 1.7,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 14,
    "v_head_dim": 10,
}

CASES: dict[str, Case] = {
    "gpt-oss": Case(
        "GptOssForCausalLM",
        {
            **_SIZES,
            **_GPT_OSS,
            # Shorter than the prompt, and low enough to clamp.
            "sliding_window": 9,
            "swiglu_limit": 1.5,
            "rope_parameters": {**_YARN, "truncate": False},
        },
        seed=1,
    ),
    "deepseek-yarn": Case(
        "DeepseekV3ForCausalLM",
        {**_SIZES, **_DEEPSEEK, "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 0.7}},
        seed=1,
    ),
    "deepseek-plain": Case(
        "DeepseekV3ForCausalLM",
        {
            **_SIZES,
            **_DEEPSEEK,
            "q_lora_rank": None,
            "rope_interleave": False,
            "norm_topk_prob": False,
            "attention_bias": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        },
        seed=3,
    ),
}


@lru_cache(maxsize=4)
def pair_of(case_name: str) -> Pair:
    return make_pair(CASES[case_name])


@torch.inference_mode(False)  # kept for tests that come later, whoever asks first
@torch.no_grad()
def make_pair(case: Case) -> Pair:
    """Write a random checkpoint to disk, and load it back."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, case.architecture)
    oracle = model_class(model_class.config_class(**case.settings, attn_implementation="eager")).eval()
    randomise(oracle, case.seed)
    sharpen(oracle, case.seed)
    oracle.generation_config = transformers.GenerationConfig(pad_token_id=0)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    return Pair(oracle, load(folder, dtype="float32", max_model_len=case.max_model_len), folder)


def sharpen(oracle: transformers.PreTrainedModel, seed: int) -> None:
    """Make experts' weights differ, so that a wrong one shows, and give buffers values that matter."""
    dice = torch.Generator().manual_seed(seed + 1)
    for name, parameter in oracle.named_parameters():
        if name.endswith(("router.weight", "mlp.gate.weight")):
            parameter.mul_(2.0)
        elif name.endswith("sinks"):
            parameter.copy_(torch.randn(parameter.shape, generator=dice) + 1.0)
        elif name.endswith("proj_bias"):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=dice))
        elif name.endswith(("A_log", "dt_bias", "recurrent_param")):
            # What a state forgets at a token: little, so that a state that is lost shows long after.
            rate = -3.0 if name.endswith("recurrent_param") else -1.0
            parameter.copy_(torch.randn(parameter.shape, generator=dice) + rate)
        elif name.endswith(".D"):
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=dice) + 1.0)
    for name, buffer in oracle.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=dice))


def reading(pair: Pair, chosen: MlaReading) -> Pair:
    """The same model, its latent rows always read in one way."""
    spec = pair.graph.spec
    layers = []
    for layer in spec.layers:
        assert isinstance(layer.attention, MlaSpec)
        layers.append(replace(layer, attention=replace(layer.attention, reading=chosen)))
    return replace(
        pair, model=replace(pair.model, graph=rebuilt(pair.graph, replace(spec, layers=tuple(layers))))
    )


def rebuilt(graph: Decoder, spec: DecoderSpec) -> Decoder:
    """The same weights under another spec."""
    changed = Decoder(spec)
    changed.load_state_dict(graph.state_dict())
    return changed.eval()


@torch.no_grad()
def measure(architecture: str) -> float:
    """The largest error over all cases, checks and readings of an architecture."""
    worst = 0.0
    for name, case in CASES.items():
        if case.architecture == architecture:
            pair = pair_of(name)
            worst = max(worst, *errors_of(pair).values())
            for chosen in MlaReading if "deepseek" in name else ():
                worst = max(worst, *(CHECKS[check](reading(pair, chosen)) for check in ("chunked", "padded")))
    return worst


#: How far each architecture is from transformers, measured when called.
MOE_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
