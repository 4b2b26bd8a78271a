"""Read Mamba-2 checkpoints (arXiv 2405.21060). Stands in no table: the engine keeps no states yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import Weights, choose_dtype, fill, open_weights
from cynosure.models.config_reader import ConfigReader, architecture_of, read_config
from cynosure.models.families.naming import Target, rename
from cynosure.models.state_space import StateSpaceDecoder
from cynosure.models.state_space_spec import StateSpaceSpec

ARCHITECTURE = "Mamba2ForCausalLM"

_OUTER: Mapping[str, Target] = {"embeddings": "embed", "norm_f": "norm", "lm_head": "head"}
_INNER: Mapping[str, Target] = {
    "norm": "norm",
    "mixer.in_proj": "mixer.project",
    "mixer.conv1d": "mixer.conv",
    "mixer.A_log": "mixer.log_rate",
    "mixer.D": "mixer.skip",
    "mixer.dt_bias": "mixer.step_offset",
    "mixer.norm": "mixer.norm",
    "mixer.out_proj": "mixer.out",
}


def parse(reader: ConfigReader) -> StateSpaceSpec:
    """Return the spec of a `Mamba2ForCausalLM`."""
    reader.expect("hidden_act", ["silu"])
    # A chunk's size changes rounding only; the rest was for drawing the first weights.
    reader.ignore("chunk_size", "time_step_rank", "time_step_min", "time_step_max", "time_step_floor")
    reader.ignore("rescale_prenorm_residual")
    min_step, max_step = _limits(reader)
    spec = StateSpaceSpec(
        vocab_size=reader.take("vocab_size", int, 32768, positive=True),
        hidden_size=reader.take("hidden_size", int, 4096, positive=True),
        num_layers=reader.take("num_hidden_layers", int, 64, positive=True),
        num_heads=reader.take("num_heads", int, 128, positive=True),
        head_dim=reader.take("head_dim", int, 64, positive=True),
        state_size=reader.take("state_size", int, 128, positive=True),
        num_groups=reader.take("n_groups", int, 8, positive=True),
        conv_width=reader.take("conv_kernel", int, 4, positive=True),
        eps=reader.take("layer_norm_epsilon", float, 1e-5, positive=True),
        has_bias=reader.take("use_bias", bool, False),
        has_conv_bias=reader.take("use_conv_bias", bool, True),
        min_step=min_step,
        max_step=max_step,
        is_residual_float32=reader.take("residual_in_fp32", bool, True),
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    expand = reader.take("expand", int, 2, positive=True)
    reader.finish()
    if spec.inner_size != expand * spec.hidden_size or spec.num_heads % spec.num_groups:
        raise UnsupportedConfig(
            f"{reader.where} has num_heads * head_dim = {spec.inner_size}, not expand * hidden_size = "
            f"{expand * spec.hidden_size}, or n_groups = {spec.num_groups}, not a divisor of num_heads = "
            f"{spec.num_heads}. Correct it."
        )
    return spec


def load_mamba2(folder: Path, dtype: str = "auto") -> StateSpaceDecoder:
    """Load a Mamba-2 checkpoint as a graph, for use as a library.

    Raises:
        CheckpointError: the folder is absent or damaged, or says what is not computed here.
        UnsupportedConfig: it is another architecture's.
    """
    config = read_config(folder)
    if architecture_of(config) != ARCHITECTURE:
        raise UnsupportedConfig(
            f"{folder} holds a {architecture_of(config)}; load_mamba2 needs {ARCHITECTURE}."
        )
    spec = parse(ConfigReader(config, str(folder / "config.json")))
    weights = open_weights(folder)
    with torch.device("meta"):
        graph = StateSpaceDecoder(spec)
    fill(graph, _rename(weights), choose_dtype(dtype, config, weights))
    return graph.eval()


def _rename(weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="layers.", prefix="backbone.")


def _limits(reader: ConfigReader) -> tuple[float, float]:
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
