"""Share out texts among forward passes. Knows nothing of tensors, nor of what a pass computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: Enough tokens to fill the matrix units, few enough for their activations to stay near the cores.
TOKENS_PER_PASS = 8192

#: Called with the number of texts done, and of all texts.
Progress = Callable[[int, int], None]


def passes(lengths: Sequence[int], budget: int = TOKENS_PER_PASS) -> list[list[int]]:
    """Share out texts among forward passes of about `budget` tokens, longest first, and like with like.

    The longest come first so that progress never slows down, and memory peaks at once.
    """
    groups: list[list[int]] = []
    room = 0
    for place in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not groups or lengths[place] > room:
            groups.append([])
            room = budget
        groups[-1].append(place)
        room -= lengths[place]
    return groups
