"""Decode the block formats of GGUF tensors into numbers. Knows nothing of files.

Each block holds its codes and their scales; the layouts are those of `ggml-quants.c` (`dequantize_row_*`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

Blocks = UInt8[Tensor, "num_blocks block_bytes"]
Numbers = Float32[Tensor, "num_blocks block_length"]

#: Blocks that are decoded at once: what is made on the way stays below about 100 MB.
_CHUNK = 2**16


def _halves(blocks: Blocks, start: int) -> Float32[Tensor, "num_blocks 1"]:
    """A scale of two bytes, float16."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _q8_0(blocks: Blocks) -> Numbers:
    """32 signed bytes times one scale."""
    return _halves(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8)


def _q4_0(blocks: Blocks) -> Numbers:
    """32 codes of 4 bits, less 8, times one scale; low halves of the bytes come first."""
    codes = blocks[:, 2:]
    values = torch.cat([codes & 15, codes >> 4], 1).to(torch.int8) - 8
    return _halves(blocks, 0) * values


def _q4_k(blocks: Blocks) -> Numbers:
    """8 groups of 32 codes of 4 bits; each group has a scale and an offset of 6 bits, times the block's."""
    packed = blocks[:, 4:16]
    low, middle, high = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    # The first four groups have their 6 bits in a byte each; the others' upper two bits are above those.
    scales = torch.cat([low & 63, (high & 15) | ((low >> 6) << 4)], 1)
    offsets = torch.cat([middle & 63, (high >> 4) | ((middle >> 6) << 4)], 1)
    codes = blocks[:, 16:].reshape(-1, 4, 1, 32)
    values = torch.cat([codes & 15, codes >> 4], 2).reshape(-1, 8, 32)
    scale = (_halves(blocks, 0) * scales)[:, :, None]
    offset = (_halves(blocks, 2) * offsets)[:, :, None]
    return (scale * values - offset).reshape(len(blocks), 256)


def _q6_k(blocks: Blocks) -> Numbers:
    """16 groups of 16 codes of 6 bits, less 32, each with a signed scale of a byte, times the block's."""
    lower = blocks[:, :128].reshape(-1, 2, 1, 64)
    upper = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    low = torch.cat([lower & 15, lower >> 4], 2).reshape(-1, 2, 4, 32)
    high = torch.cat([(upper >> shift) & 3 for shift in (0, 2, 4, 6)], 2)
    values = ((low | (high << 4)).to(torch.int8) - 32).reshape(-1, 16, 16)
    scales = blocks[:, 192:208].contiguous().view(torch.int8)
    scale = (_halves(blocks, 208) * scales)[:, :, None]
    return (scale * values).reshape(len(blocks), 256)


#: What decodes each kind of blocks.
DECODERS: Mapping[str, Callable[[Blocks], Numbers]] = MappingProxyType(
    {"Q4_0": _q4_0, "Q8_0": _q8_0, "Q4_K": _q4_k, "Q6_K": _q6_k}
)


def decode(kind: str, blocks: Blocks) -> Float32[Tensor, " num_values"]:
    """Return the numbers of blocks of one kind, chunk by chunk."""
    decoder = DECODERS[kind]
    if not len(blocks):
        return torch.empty(0)
    return torch.cat([decoder(chunk).reshape(-1) for chunk in blocks.split(_CHUNK)])
