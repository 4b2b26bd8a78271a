"""Name a GGUF file's tensors as a checkpoint's folder does, and read them. Knows nothing of modules.

llama.cpp rotates the queries and keys of Llama in neighbouring pairs, and its converter reorders their rows
for that; Gemma's norms have their 1 added. Both are undone here: the families see a checkpoint like any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from jaxtyping import UInt8
from torch import Tensor

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.gguf.blocks import decode
from cynosure.models.gguf.config import ROPE_FACTORS
from cynosure.models.gguf.header import GgufFile, GgufTensor

_OUTER: Mapping[str, str] = MappingProxyType(
    {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
)
_LAYER: Mapping[str, str] = MappingProxyType(
    {
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
)
#: Gemma has a norm behind attention and MLP too.
_GEMMA_LAYER: Mapping[str, str] = MappingProxyType(
    {
        **_LAYER,
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
)
_GEMMAS = ("gemma2", "gemma3")

_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<module>\w+)\.(?P<leaf>weight|bias)")

#: Those that are not codes, as safetensors call them too.
_PLAIN: Mapping[str, torch.dtype] = MappingProxyType(
    {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
)


@dataclass(frozen=True)
class GgufEntry:
    """One tensor under its checkpoint's name: where its bytes lie, and what is to be undone.

    - `dtype`: what it is read as: itself, or F32 where it is codes.
    - `paired_heads`: heads whose rows are in pairs.
    - `offset`: what was added to it.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int
    kind: str
    block_bytes: int
    paired_heads: int | None = None
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether its bytes are numbers as they are."""
        return self.kind in _PLAIN

    def tensor(self, content: UInt8[Tensor, " num_bytes"]) -> Tensor:
        """Return the tensor that its bytes hold; a view of them where nothing is to be decoded or undone."""
        if self.is_plain:
            values = content.view(_PLAIN[self.kind])
        else:
            values = decode(self.kind, content.view(-1, self.block_bytes))
        tensor = values.view(self.shape)
        if self.paired_heads is not None:
            tensor = _unpaired(tensor, self.paired_heads)
        return tensor - self.offset if self.offset else tensor


def gguf_entries(file: GgufFile) -> dict[str, GgufEntry]:
    """Return the tensors by the names of a checkpoint's folder; an unknown name stays as it is.

    Raises:
        UnsupportedConfig: two tensors mean the same, or rows that can't be in pairs.
    """
    found: dict[str, GgufEntry] = {}
    for tensor in file.tensors.values():
        # The config holds these; elsewhere they have no meaning, and are reported as unexpected.
        if tensor.name == ROPE_FACTORS and file.architecture == "llama":
            continue
        name = _name_of(tensor.name, _GEMMA_LAYER if file.architecture in _GEMMAS else _LAYER)
        if name in found:
            raise UnsupportedConfig(f"{file.path} holds two tensors that mean {name}. Fetch the file again.")
        found[name] = _entry(file, tensor, name)
    return found


def _name_of(name: str, layer_names: Mapping[str, str]) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        return name
    is_outer = match["layer"] is None
    module = (_OUTER if is_outer else layer_names).get(match["module"])
    if module is None:
        return name
    place = "" if is_outer else f"model.layers.{match['layer']}."
    return f"{place}{module}.{match['leaf']}"


def _entry(file: GgufFile, tensor: GgufTensor, name: str) -> GgufEntry:
    heads: int | None = None
    if file.architecture == "llama" and ".self_attn." in name:
        heads = _paired_heads(file, tensor, name)
    has_offset = file.architecture in _GEMMAS and name.endswith("norm.weight")
    kind = tensor.kind
    return GgufEntry(
        file=file.path,
        dtype=kind.name if kind.name in _PLAIN else "F32",
        shape=tensor.shape,
        begin=tensor.begin,
        end=tensor.end,
        kind=kind.name,
        block_bytes=kind.num_bytes,
        paired_heads=heads,
        offset=1.0 if has_offset else 0.0,
    )


def _paired_heads(file: GgufFile, tensor: GgufTensor, name: str) -> int | None:
    """Return how many heads a projection of queries or keys has."""
    all_heads = file.metadata.get("llama.attention.head_count")
    keys = {"q_proj": all_heads, "k_proj": file.metadata.get("llama.attention.head_count_kv", all_heads)}
    heads = keys.get(name.split(".")[-2])
    if heads is None:
        return None
    if not isinstance(heads, int) or heads < 1 or tensor.shape[0] % (2 * heads):
        raise UnsupportedConfig(
            f"{file.path} has {tensor.shape[0]} rows in {tensor.name} for {heads} heads; a multiple of "
            "twice as "
            "many is needed. Fetch the file again."
        )
    return heads


def _unpaired(rows: Tensor, num_heads: int) -> Tensor:
    """Return rows in the order of halves, where rows of a pair stood side by side."""
    pairs = rows.reshape(num_heads, -1, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
