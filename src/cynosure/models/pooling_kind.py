"""Name the ways from the tokens of a sequence to one vector. Knows nothing of tensors."""

from __future__ import annotations

from enum import Enum


class Pooling(Enum):
    """How the tokens of a sequence become one vector; the names are those of sentence-transformers.

    `MEAN_SQRT_LEN` divides the sum by the root of the length, `WEIGHTED_MEAN` weighs token i of 1..n by i
    (SGPT, arXiv 2202.08904, equation 2).
    """

    CLS = "cls"
    MEAN = "mean"
    MAX = "max"
    MEAN_SQRT_LEN = "mean_sqrt_len_tokens"
    WEIGHTED_MEAN = "weightedmean"
    LAST_TOKEN = "lasttoken"
