"""Find the largest logit of each row, on native kernels where there are any. Knows nothing of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.kernels import why_none
from cynosure.kernels.program import argmax


class Likeliest(NamedTuple):
    """Where the largest logit of a row stands, and the number; NaN where one is."""

    token_id: int
    logit: float


def largest(logits: Float[Tensor, "n vocab"]) -> tuple[list[int], list[float]]:
    """Return where the largest of each row stands, the first of equals, and the number; NaN where one is."""
    is_native = logits.device.type == "cpu" and logits.dtype == torch.float32 and not why_none()
    if not is_native or not logits.shape[0]:
        return logits.argmax(-1).tolist(), logits.amax(-1).tolist()
    rows = logits.contiguous()
    num_rows, vocab_size = rows.shape
    ids = torch.empty(num_rows, dtype=torch.int64)
    highest = torch.empty(num_rows, dtype=torch.float32)
    argmax(rows.data_ptr(), num_rows, vocab_size, ids.data_ptr(), highest.data_ptr())
    return ids.tolist(), highest.tolist()


def stacked(rows: Sequence[Float[Tensor, " vocab"]]) -> Float[Tensor, "n vocab"]:
    """Return rows as one matrix; those that lie behind one another in memory already are not copied."""
    first, size = rows[0], rows[0].shape[0]
    start, memory = first.storage_offset(), first.untyped_storage().data_ptr()
    is_whole = first.stride() == (1,) and all(
        row.storage_offset() == start + place * size and row.untyped_storage().data_ptr() == memory
        for place, row in enumerate(rows)
    )
    return first.as_strided((len(rows), size), (size, 1)) if is_whole else torch.stack(list(rows))
