"""List the kinds of numbers that a GGUF tensor may hold. Knows nothing of files, nor of how they decode.

Numbers and layouts: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and `ggml-common.h` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class BlockKind:
    """A kind that is read here: rows are cut into blocks of `length` numbers, `num_bytes` each."""

    name: str
    length: int
    num_bytes: int


#: By the number that a file writes.
KINDS: Mapping[int, BlockKind] = MappingProxyType(
    {
        0: BlockKind("F32", 1, 4),
        1: BlockKind("F16", 1, 2),
        2: BlockKind("Q4_0", 32, 18),
        8: BlockKind("Q8_0", 32, 34),
        12: BlockKind("Q4_K", 256, 144),
        14: BlockKind("Q6_K", 256, 210),
        30: BlockKind("BF16", 1, 2),
    }
)

#: What else exists, to be refused by its name.
OTHER_NAMES: Mapping[int, str] = MappingProxyType(
    {
        3: "Q4_1",
        6: "Q5_0",
        7: "Q5_1",
        9: "Q8_1",
        10: "Q2_K",
        11: "Q3_K",
        13: "Q5_K",
        15: "Q8_K",
        16: "IQ2_XXS",
        17: "IQ2_XS",
        18: "IQ3_XXS",
        19: "IQ1_S",
        20: "IQ4_NL",
        21: "IQ3_S",
        22: "IQ2_S",
        23: "IQ4_XS",
        24: "I8",
        25: "I16",
        26: "I32",
        27: "I64",
        28: "F64",
        29: "IQ1_M",
        34: "TQ1_0",
        35: "TQ2_0",
        39: "MXFP4",
    }
)
