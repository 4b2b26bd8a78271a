"""Say in the words of `config.json` what a GGUF file's metadata says of its model. Knows nothing of graphs.

Every key under the architecture's name must be understood, as in a folder's config. Where llama.cpp knows a
number by itself (Gemma's scale and rotary bases), the same rule stands here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cynosure.core.errors import CheckpointCorrupt, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.gguf.advice import end_ids, token_id, tokens_of
from cynosure.models.gguf.header import GgufFile
from cynosure.models.json_file import JsonValue

Config = dict[str, JsonValue]

#: Divides each rotary frequency by a number of its own: how Llama 3.1's scaling is stored.
ROPE_FACTORS = "rope_freqs.weight"

#: Written where there are no experts, and by old converters; they shape nothing.
_NEUTRAL: Mapping[str, JsonValue] = MappingProxyType({"expert_count": 0, "expert_used_count": 0})
_INERT = ("tensor_data_layout", "rope.scaling.finetuned")


def gguf_config(file: GgufFile) -> Config:
    """Return what `config.json` would hold.

    Raises:
        UnsupportedArchitecture: llama.cpp's graph has no counterpart here.
        UnsupportedConfig: a key of the graph that is not understood, or of another type or range.
        CheckpointCorrupt: a tensor that the config follows from is missing.
    """
    name = file.architecture
    if name not in _ARCHITECTURES:
        raise UnsupportedArchitecture(
            f"{file.path} is a GGUF of the architecture {name!r}; these are read here: "
            f"{', '.join(sorted(_ARCHITECTURES))}. Take the model's own folder, if its architecture is "
            "served."
        )
    prefix = f"{name}."
    values: dict[str, JsonValue] = {
        key.removeprefix(prefix): list(value) if isinstance(value, tuple) else value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
    }
    reader = ConfigReader(values, f"{file.path}: {name}.*")
    config = _ARCHITECTURES[name](reader, file, _shape(reader, file))
    reader.ignore(*_INERT, neutral=_NEUTRAL)
    reader.finish()
    return config


def _shape(reader: ConfigReader, file: GgufFile) -> Config:
    """Return what all architectures say in the same way."""
    heads = reader.take("attention.head_count", int, positive=True)
    hidden_size = reader.take("embedding_length", int, positive=True)
    head_dim = reader.take("attention.key_length", int, hidden_size // heads, positive=True)
    # Values of another width, and rotations of a part of a head, are in no graph that is read here.
    reader.expect("attention.value_length", [head_dim], head_dim)
    reader.expect("rope.dimension_count", [head_dim], head_dim)
    vocab_size = _vocab_size(file)
    reader.expect("vocab_size", [vocab_size], vocab_size)
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": reader.take("block_count", int, positive=True),
        "intermediate_size": reader.take("feed_forward_length", int, positive=True),
        "num_attention_heads": heads,
        "num_key_value_heads": reader.take("attention.head_count_kv", int, heads, positive=True),
        "head_dim": head_dim,
        "vocab_size": vocab_size,
        "max_position_embeddings": reader.take("context_length", int, positive=True),
        "rms_norm_eps": _float32(reader.take("attention.layer_norm_rms_epsilon", float, positive=True)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "dtype": _dtype(file),
        "bos_token_id": token_id(file, "bos"),
        "eos_token_id": list(end_ids(file)),
        "pad_token_id": token_id(file, "padding"),
    }


def _llama(reader: ConfigReader, file: GgufFile, shape: Config) -> Config:
    """Mistral's files too: llama.cpp has no window there."""
    biases = {
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in file.tensors,
    }
    return {"architectures": ["LlamaForCausalLM"], **shape, **biases, **_rope(reader, file, 10_000.0)}


def _qwen2(reader: ConfigReader, file: GgufFile, shape: Config) -> Config:
    return {"architectures": ["Qwen2ForCausalLM"], **shape, **_rope(reader, file, 10_000.0)}


def _qwen3(reader: ConfigReader, file: GgufFile, shape: Config) -> Config:
    return {"architectures": ["Qwen3ForCausalLM"], **shape, **_rope(reader, file, 10_000.0)}


def _gemma2(reader: ConfigReader, file: GgufFile, shape: Config) -> Config:
    return {
        "architectures": ["Gemma2ForCausalLM"],
        **shape,
        **_rope(reader, file, 10_000.0),
        "query_pre_attn_scalar": _gemma_scale(shape, 46),
        "sliding_window": reader.take("attention.sliding_window", int, 4096, positive=True),
        "attn_logit_softcapping": reader.take("attn_logit_softcapping", float, 50.0, positive=True),
        "final_logit_softcapping": reader.take("final_logit_softcapping", float, 30.0, positive=True),
    }


def _gemma3(reader: ConfigReader, file: GgufFile, shape: Config) -> Config:
    return {
        "architectures": ["Gemma3ForCausalLM"],
        **shape,
        **_rope(reader, file, 1_000_000.0),
        "rope_local_base_freq": reader.take("rope.freq_base_swa", float, 10_000.0, positive=True),
        "query_pre_attn_scalar": _gemma_scale(shape, 62),
        "sliding_window": reader.take("attention.sliding_window", int, positive=True),
        "sliding_window_pattern": reader.take("attention.sliding_window_pattern", int, 6, positive=True),
        "final_logit_softcapping": reader.take("final_logit_softcapping", float, None, positive=True),
    }


#: By llama.cpp's name of the graph.
_ARCHITECTURES: Mapping[str, Callable[[ConfigReader, GgufFile, Config], Config]] = MappingProxyType(
    {"llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "gemma2": _gemma2, "gemma3": _gemma3}
)


def _gemma_scale(shape: Config, layers_of_27b: int) -> int:
    """Return `query_pre_attn_scalar`, which files lack: the width of a head, save in the models of 27B."""
    hidden_size, heads, head_dim = (shape[key] for key in ("hidden_size", "num_attention_heads", "head_dim"))
    assert isinstance(hidden_size, int)
    assert isinstance(heads, int)
    assert isinstance(head_dim, int)
    return hidden_size // heads if shape["num_hidden_layers"] == layers_of_27b else head_dim


def _rope(reader: ConfigReader, file: GgufFile, default: float) -> Config:
    """Return base and scaling of the rotary position."""
    base = reader.take("rope.freq_base", float, default, positive=True)
    old = reader.take("rope.scale_linear", float, 1.0, positive=True)
    kind = reader.expect("rope.scaling.type", ["none", "linear", "yarn"], "none" if old == 1.0 else "linear")
    factor = reader.take("rope.scaling.factor", float, old, positive=True)
    original = reader.take("rope.scaling.original_context_length", int, None, positive=True)
    scaling: Config | None = None
    if kind == "linear":
        scaling = {"rope_type": "linear", "factor": factor}
    elif kind == "yarn":
        scaling = {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": reader.take("rope.scaling.yarn_beta_fast", float, None, positive=True),
            "beta_slow": reader.take("rope.scaling.yarn_beta_slow", float, None, positive=True),
        }
    if ROPE_FACTORS in file.tensors:
        if scaling is not None:
            raise UnsupportedConfig(
                f"{file.path} scales its rotary position twice: by {ROPE_FACTORS} and by rope.scaling. Only "
                "one of them is supported. Take the model's own folder."
            )
        # LongRoPE with one list for all lengths divides each frequency by its own number, and does no more.
        factors: list[JsonValue] = [*_factors(file)]
        lists = {"short_factor": factors, "long_factor": factors}
        scaling = {"rope_type": "longrope", "attention_factor": 1.0, **lists}
    return {"rope_theta": base, "rope_scaling": scaling}


def _factors(file: GgufFile) -> tuple[float, ...]:
    """Return the numbers that the rotary frequencies are divided by."""
    tensor = file.tensors[ROPE_FACTORS]
    if tensor.kind.name != "F32" or len(tensor.shape) != 1 or tensor.shape[0] > 4096:
        raise CheckpointCorrupt(
            f"{file.path} stores {ROPE_FACTORS} as {tensor.kind.name} of the shape {tensor.shape}; a short "
            "row of "
            "F32 is needed. Fetch the file again."
        )
    with file.path.open("rb") as stream:
        stream.seek(tensor.begin)
        content = stream.read(tensor.end - tensor.begin)
    if len(content) != tensor.end - tensor.begin:
        raise CheckpointCorrupt(f"{file.path} has become shorter while it was read. Fetch it again.")
    return struct.unpack(f"<{tensor.shape[0]}f", content)


def _vocab_size(file: GgufFile) -> int:
    """Return the rows of the table of embeddings, which every token must have."""
    table = file.tensors.get("token_embd.weight")
    if table is None:
        raise CheckpointCorrupt(f"{file.path} lacks the tensor token_embd.weight. Fetch the file again.")
    num_tokens = len(tokens_of(file))
    if num_tokens > table.shape[0]:
        raise CheckpointCorrupt(
            f"{file.path} lists {num_tokens} tokens and embeds {table.shape[0]}. Fetch the file again."
        )
    return table.shape[0]


def _dtype(file: GgufFile) -> str:
    """Return what to compute in: what the matrices are stored in, or bfloat16 where they are codes."""
    sizes: dict[str, int] = {}
    for tensor in file.tensors.values():
        sizes[tensor.kind.name] = sizes.get(tensor.kind.name, 0) + tensor.end - tensor.begin
    kind = max(sizes, key=lambda name: sizes[name])
    return {"F32": "float32", "F16": "float16"}.get(kind, "bfloat16")


def _float32(value: float) -> float:
    """Return a short decimal that is the same float32: 1e-05 instead of 9.999999747378752e-06."""
    same = float(f"{value:.7g}")
    return same if struct.pack("<f", same) == struct.pack("<f", value) else value
