"""Say which keys each query may attend to. Knows nothing of scores, values or backends."""

from cynosure.attention.masks.algebra import And, Mask, Not, Or
from cynosure.attention.masks.block_map import BlockMap, Cover
from cynosure.attention.masks.extent import LastBlock, UpTo
from cynosure.attention.masks.labelled import Document, Pad, Prefix
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.masks.positional import Blocks, Causal, Chunk, Dilated, Full, Global, Window
from cynosure.attention.masks.random_blocks import Random
from cynosure.attention.masks.reach import reach
from cynosure.attention.masks.tree import Tree

__all__ = [
    "And",
    "BlockMap",
    "Blocks",
    "Causal",
    "Chunk",
    "Cover",
    "Dilated",
    "Document",
    "Full",
    "Global",
    "LastBlock",
    "Mask",
    "Not",
    "Or",
    "Pad",
    "Prefix",
    "Random",
    "Tree",
    "UpTo",
    "Window",
    "parse_mask",
    "reach",
]
