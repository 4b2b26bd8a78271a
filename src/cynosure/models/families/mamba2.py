"""Read Mamba-2 checkpoints (arXiv 2405.21060). Runs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.naming import Target, rename
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.state_space import StateSpaceSpec

_OUTER: Mapping[str, Target] = {"embeddings": "embed", "norm_f": "norm", "lm_head": "head"}


def mixer_names(theirs: str) -> dict[str, Target]:
    """Return what the parts of a Mamba-2 mixer called `theirs` are called here."""
    return {
        f"{theirs}.in_proj": "attention.project",
        f"{theirs}.conv1d": "attention.conv",
        f"{theirs}.A_log": "attention.log_rate",
        f"{theirs}.D": "attention.skip",
        f"{theirs}.dt_bias": "attention.step_offset",
        f"{theirs}.norm": "attention.norm",
        f"{theirs}.out_proj": "attention.out",
    }


def step_limits(reader: ConfigReader) -> tuple[float, float]:
    """Return the bounds of step sizes; JSON has no infinity, so that files spell it as an object."""
    values = reader.take("time_step_limit", list, [0.0, math.inf])
    found = [math.inf if value == {"__float__": "Infinity"} else value for value in values]
    numbers = [float(x) for x in found if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(found) != 2 or len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1]:
        raise UnsupportedConfig(
            f"{reader.where} has time_step_limit = {values}; two numbers are needed, 0 or more, in order. "
            "Correct it."
        )
    return numbers[0], numbers[1]


def check_heads(reader: ConfigReader, spec: StateSpaceSpec, expected: int, words: str) -> None:
    """Refuse heads that do not make up the channels that `words` say, or groups that do not divide them.

    Raises:
        UnsupportedConfig: says which.
    """
    if spec.inner_size != expected or spec.num_heads % spec.num_groups:
        raise UnsupportedConfig(
            f"{reader.where} has {spec.num_heads} heads of {spec.head_dim} channels, not {words} = "
            f"{expected} channels, or {spec.num_groups} groups, which do not divide the heads. Correct it."
        )


def _parse(reader: ConfigReader) -> DecoderSpec:
    reader.expect("hidden_act", ["silu"])
    # A chunk's size changes rounding only; the rest was for drawing the first weights.
    reader.ignore("chunk_size", "time_step_rank", "time_step_min", "time_step_max", "time_step_floor")
    reader.ignore("rescale_prenorm_residual")
    hidden_size = reader.take("hidden_size", int, 4096, positive=True)
    eps = reader.take("layer_norm_epsilon", float, 1e-5, positive=True)
    min_step, max_step = step_limits(reader)
    mixer = StateSpaceSpec(
        num_heads=reader.take("num_heads", int, 128, positive=True),
        head_dim=reader.take("head_dim", int, 64, positive=True),
        state_size=reader.take("state_size", int, 128, positive=True),
        num_groups=reader.take("n_groups", int, 8, positive=True),
        conv_width=reader.take("conv_kernel", int, 4, positive=True),
        eps=eps,
        has_bias=reader.take("use_bias", bool, False),
        has_conv_bias=reader.take("use_conv_bias", bool, True),
        min_step=min_step,
        max_step=max_step,
    )
    expand = reader.take("expand", int, 2, positive=True)
    check_heads(reader, mixer, expand * hidden_size, "expand * hidden_size")
    norm = NormSpec(NormKind.RMS, eps)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 32768, positive=True),
        hidden_size=hidden_size,
        layers=(LayerSpec(mixer, None, norm),) * reader.take("num_hidden_layers", int, 64, positive=True),
        final_norm=norm,
        max_model_len=declared_length(reader, None),
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
        has_float32_sums=reader.take("residual_in_fp32", bool, True),
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner = {"norm": "attention_norm", **mixer_names("mixer")}
    return rename(weights, _OUTER, inner, stack="layers.", prefix="backbone.")


BRANDS: tuple[Brand, ...] = (Brand("Mamba2ForCausalLM", ModelKind.DECODER, _parse, Decoder, _rename),)
