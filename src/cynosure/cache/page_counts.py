"""Share a memory out among pages that are kept and pages of windows. Knows nothing of tensors or sequences.

The rule, with `f` bytes of a block in layers that keep everything and `w` in those of windows:

1. A window is worth a pool of its own only where a sequence can outgrow what it holds at most.
2. Beside a page of zeros for each window, the memory would hold `n = memory / (f + w)` blocks, each with a
   page in every layer. Windows get half of those `n` pages, but no more than all sequences that may run at
   once can hold; and at least a page for every fourth block, so that the ends of cached beginnings stay
   usable, and what one sequence holds.
3. All that is left goes to blocks.

So there are never fewer blocks than `n`, mostly far more; and room for no less than half as many sequences
that are too short to outgrow a window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from cynosure.cache.contiguous import LayerShape
from cynosure.cache.paged import bytes_per_block
from cynosure.cache.window_pages import max_held

#: Of so many blocks, one at least can have a page in the layers of a window.
BLOCKS_PER_PAGE = 4


@dataclass(frozen=True)
class PageNeeds:
    """What sequences may ask for.

    - `max_model_len`: tokens of the longest; `None` where there is no limit.
    - `max_num_seqs`: how many run at once.
    - `max_step`: the most tokens that a pass adds to one.
    """

    block_size: int
    max_model_len: int | None
    max_num_seqs: int
    max_step: int

    @property
    def max_blocks(self) -> int | None:
        """Blocks of the longest sequence."""
        return None if self.max_model_len is None else -(-self.max_model_len // self.block_size)

    def max_held(self, window: int) -> int:
        """Pages of a window that one sequence holds at most."""
        return max_held(window, self.block_size, self.max_step)

    def is_outgrown(self, window: int) -> bool:
        """Whether a sequence may have more blocks than it holds pages of this window."""
        return self.max_blocks is None or self.max_held(window) < self.max_blocks


@dataclass(frozen=True)
class PageCounts:
    """How many blocks there are, and how many pages the layers of each window have."""

    num_blocks: int
    windows: Mapping[int, int]


def page_counts(
    memory_bytes: int, layers: Sequence[LayerShape], dtype: torch.dtype, needs: PageNeeds
) -> PageCounts:
    """Return the numbers that fill a memory by the rule above; 0 blocks where it does not hold one."""
    block_bytes = max(1, bytes_per_block(layers, dtype, needs.block_size))
    windows = {
        window: bytes_per_block(
            [shape for shape in layers if shape.window == window], dtype, needs.block_size
        )
        for window in sorted({shape.window for shape in layers if shape.window is not None})
        if needs.is_outgrown(window)
    }
    room = memory_bytes - sum(windows.values())
    plain = room // block_bytes
    if not windows or plain < 1:
        return PageCounts(memory_bytes // block_bytes, {})
    memory_bytes = room
    kept_bytes = block_bytes - sum(windows.values())
    if not kept_bytes:
        return _of_windows_alone(memory_bytes, windows, needs)
    # As many blocks as there would be with a page of each window for every fourth.
    sparse = memory_bytes * BLOCKS_PER_PAGE // (kept_bytes * BLOCKS_PER_PAGE + sum(windows.values()))
    counts: dict[int, int] = {}
    for window in windows:
        most = needs.max_held(window)
        for_those_who_run = min(plain // 2, needs.max_num_seqs * most)
        counts[window] = max(sparse // BLOCKS_PER_PAGE, for_those_who_run, min(plain, most))
    left = memory_bytes - sum(windows[window] * count for window, count in counts.items())
    return PageCounts(left // kept_bytes, counts)


def _of_windows_alone(memory_bytes: int, windows: Mapping[int, int], needs: PageNeeds) -> PageCounts:
    """Blocks cost nothing here but their names: enough for as many longest sequences as windows hold."""
    num_pages = memory_bytes // sum(windows.values())
    num_seqs = max(1, min(num_pages // needs.max_held(window) for window in windows))
    of_longest = min(num_seqs, needs.max_num_seqs) * (needs.max_blocks or 0)
    return PageCounts(max(BLOCKS_PER_PAGE * num_pages, of_longest), dict.fromkeys(windows, num_pages))
