"""Write small GGUF files with the public writer, and folders of the same weights. Runs nothing of ours.

A matrix is quantised row by row, so that what the public package gives back for a matrix of the folder is
what a reader must find, whichever order the file keeps the rows in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file

WIDTH = 256
VOCAB = 64
NUM_LAYERS = 2
HEADS, KV_HEADS = 4, 2

#: The converter's names, and the checkpoint's.
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
CODED = (Kind.Q8_0, Kind.Q4_0, Kind.Q4_K, Kind.Q6_K)


@dataclass(frozen=True)
class Model:
    """What to write: llama.cpp's name, the folder's config, and keys of the file beyond the common ones."""

    arch: str
    config: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    has_qk_norm: bool = False
    has_biases: bool = False
    is_tied: bool = False

    @property
    def is_gemma(self) -> bool:
        return self.arch.startswith("gemma")


_SHAPE = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": WIDTH // HEADS,
    "vocab_size": VOCAB,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "dtype": "float32",
}


def _config(architecture: str, **more: object) -> dict[str, Any]:
    return {"architectures": [architecture], **_SHAPE, **more}


#: Llama 3.1's scaling, which a file holds as a tensor.
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

_GEMMA = {"attention.key_length": WIDTH // HEADS, "attention.value_length": WIDTH // HEADS}

MODELS = {
    "llama": Model("llama", _config("LlamaForCausalLM")),
    "llama3": Model("llama", _config("LlamaForCausalLM", rope_scaling=LLAMA3)),
    "llama-linear": Model(
        "llama",
        _config("LlamaForCausalLM", rope_scaling={"rope_type": "linear", "factor": 2.0}),
        {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
    ),
    "qwen2": Model(
        "qwen2", _config("Qwen2ForCausalLM", tie_word_embeddings=True), has_biases=True, is_tied=True
    ),
    "qwen2-yarn": Model(
        "qwen2",
        _config(
            "Qwen2ForCausalLM",
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        ),
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
        },
        has_biases=True,
    ),
    "qwen3": Model("qwen3", _config("Qwen3ForCausalLM"), has_qk_norm=True),
    "gemma2": Model(
        "gemma2",
        _config(
            "Gemma2ForCausalLM",
            query_pre_attn_scalar=WIDTH // HEADS,
            sliding_window=8,
            attn_logit_softcapping=50.0,
            final_logit_softcapping=30.0,
        ),
        {
            **_GEMMA,
            "attention.sliding_window": 8,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        is_tied=True,
    ),
    "gemma3": Model(
        "gemma3",
        _config(
            "Gemma3ForCausalLM",
            query_pre_attn_scalar=WIDTH // HEADS,
            sliding_window=8,
            sliding_window_pattern=2,
            rope_local_base_freq=10_000.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        ),
        {
            **_GEMMA,
            "attention.sliding_window": 8,
            # Without the key it would be 6, and no layer of two would see all.
            "attention.sliding_window_pattern": 2,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
        has_qk_norm=True,
        is_tied=True,
    ),
}


def rows_of(kind: Kind, num_rows: int, width: int, dice: np.random.Generator) -> np.ndarray:
    """Random rows as their bytes in the file."""
    values = (dice.standard_normal((num_rows, width)) / 8).astype(np.float32)
    if kind in (Kind.Q4_K, Kind.Q6_K):
        # The public package does not make these; any bytes are codes, and the scales are set small.
        length, num_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = dice.integers(0, 256, (num_rows, width // length, num_bytes), np.uint8)
        scales = (dice.random((num_rows, width // length, 2)) / 2000 - 1e-4).astype(np.float16).view(np.uint8)
        if kind is Kind.Q4_K:
            blocks[..., :4] = scales
        else:
            blocks[..., 208:] = scales[..., :2]
        return blocks.reshape(num_rows, -1)
    return gguf.quantize(values, kind)


def paired(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's converter."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def write_pair(folder: Path, model: Model, kind: Kind = Kind.F32, **more: object) -> tuple[Path, Path]:
    """Write a GGUF file with matrices of one kind, and a folder of the same weights; return both.

    Args:
        folder: where to.
        model: what.
        kind: of the matrices; norms and biases are F32, as the converter writes them.
        more: keys to add to the file as they are called there, or to take out where they are `...`.
    """
    dice = np.random.default_rng(3)
    kept = folder / "folder"
    kept.mkdir(parents=True)
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, model.arch)
    _write_metadata(writer, model, more)
    vocab_size = _length(more.get("tokenizer.ggml.tokens")) or VOCAB
    tensors: dict[str, torch.Tensor] = {}
    for name, theirs, shape in _tensors(model, vocab_size):
        if len(shape) == 1:
            values = dice.standard_normal(shape).astype(np.float32) / 4
            is_norm = theirs.endswith("norm.weight")
            values += 0.0 if model.is_gemma or not is_norm else 1.0
            tensors[theirs] = torch.from_numpy(values)
            stored = values + np.float32(1) if model.is_gemma else values
            writer.add_tensor(name, _for_llama(model, theirs, stored))
            continue
        content = rows_of(kind, *shape, dice)
        tensors[theirs] = torch.from_numpy(gguf.dequantize(content, kind).reshape(shape).copy())
        writer.add_tensor(name, _for_llama(model, theirs, content), raw_dtype=kind)
    if model.config.get("rope_scaling") == LLAMA3:
        writer.add_tensor("rope_freqs.weight", _llama3_factors())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = {**model.config, "vocab_size": vocab_size, "tie_word_embeddings": model.is_tied}
    (kept / "config.json").write_text(json.dumps(config))
    save_file(tensors, kept / "model.safetensors")
    return path, kept


def _length(listed: object) -> int:
    return len(listed) if isinstance(listed, list) else 0


def _for_llama(model: Model, name: str, rows: np.ndarray) -> np.ndarray:
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    return paired(rows, heads) if model.arch == "llama" and heads else rows


def _write_metadata(writer: gguf.GGUFWriter, model: Model, more: Mapping[str, object]) -> None:
    values: dict[str, Any] = {
        f"{model.arch}.{name}": value
        for name, value in {
            "context_length": 128,
            "embedding_length": WIDTH,
            "block_count": NUM_LAYERS,
            "feed_forward_length": WIDTH,
            "attention.head_count": HEADS,
            "attention.head_count_kv": KV_HEADS,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 5e5,
            **model.metadata,
        }.items()
    }
    _add(writer, {**values, **more})


def write_header(path: Path, metadata: Mapping[str, Any]) -> Path:
    """Write a file that holds keys alone, for what reads no more."""
    writer = gguf.GGUFWriter(path, "llama")
    _add(writer, metadata)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, metadata: Mapping[str, object]) -> None:
    """Add keys by the kinds of their values; what is `...` is left out."""
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not ...:
            writer.add_array(key, value)


def _tensors(model: Model, vocab_size: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Names in the file and in the folder, and shapes."""
    head_dim = WIDTH // HEADS
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (KV_HEADS * head_dim, WIDTH),
        "attn_v": (KV_HEADS * head_dim, WIDTH),
        "attn_q_norm": (head_dim,),
        "attn_k_norm": (head_dim,),
    }
    listed: list[tuple[str, str, tuple[int, ...]]] = [
        ("token_embd.weight", "model.embed_tokens.weight", (vocab_size, WIDTH)),
        ("output_norm.weight", "model.norm.weight", (WIDTH,)),
    ]
    if not model.is_tied:
        listed.append(("output.weight", "lm_head.weight", (vocab_size, WIDTH)))
    for layer in range(NUM_LAYERS):
        for name, theirs in (GEMMA_NAMES if model.is_gemma else NAMES).items():
            if name.endswith(("q_norm", "k_norm")) and not model.has_qk_norm:
                continue
            place = (f"blk.{layer}.{name}", f"model.layers.{layer}.{theirs}")
            shape = shapes.get(name, (WIDTH,) if name.endswith("norm") else (WIDTH, WIDTH))
            listed.append((f"{place[0]}.weight", f"{place[1]}.weight", shape))
            if model.has_biases and name in ("attn_q", "attn_k", "attn_v"):
                listed.append((f"{place[0]}.bias", f"{place[1]}.bias", shape[:1]))
    return listed


def _llama3_factors() -> np.ndarray:
    """`LlamaModel.generate_extra_tensors` of llama.cpp's converter."""
    dim, base = WIDTH // HEADS, _SHAPE["rope_theta"]
    factor, low, high = 8.0, 1.0, 4.0
    waves = 2 * np.pi * base ** (np.arange(0, dim, 2) / dim)
    smooth = (32 / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(waves < 32 / high, 1.0, np.where(waves > 32 / low, factor, between)).astype(np.float32)
