"""Share out one pass of an encoder among the requests that wait. Knows nothing of tensors or texts."""

from __future__ import annotations

from collections.abc import Sequence


def share_out(queues: Sequence[Sequence[int]], budget: int) -> list[int]:
    """How many of each queue to take, from its front.

    The first text of the most urgent goes in any case. Then each queue gets an even share of the budget, so
    that a short request never waits for the whole of a long one; what is left over goes to them in order.
    Nothing is passed over within a queue.

    Args:
        queues: for each request that waits, most urgent first, the lengths of its texts in tokens.
        budget: tokens of the pass; only a text that is longer by itself exceeds it.
    """
    assert queues
    assert all(queues), "a request without texts has nothing to wait for"
    counts = [1] + [0] * (len(queues) - 1)
    used = [queues[0][0]] + [0] * (len(queues) - 1)
    for share in (budget // len(queues), budget):
        for place, lengths in enumerate(queues):
            while counts[place] < len(lengths):
                length = lengths[counts[place]]
                if used[place] + length > share or sum(used) + length > budget:
                    break
                counts[place] += 1
                used[place] += length
    return counts
