from __future__ import annotations

import pytest
import torch

from cynosure.attention.grid import Grid
from cynosure.attention.masks import Causal, Chunk, Global, Mask, Window, reach

NUM_TOKENS = 24
BOUNDED = {
    Causal() & Window(5): 5,
    Window(7): 7,
    Causal() & Chunk(6): 6,
    Causal() & Window(9) & Chunk(4): 4,
    (Causal() & Window(3)) | (Causal() & Chunk(5)): 5,
}


@pytest.mark.parametrize(("mask", "bound"), BOUNDED.items(), ids=map(repr, BOUNDED))
def test_no_query_looks_farther_and_one_looks_so_far(mask: Mask, bound: int) -> None:
    assert reach(mask) == bound
    places = torch.arange(NUM_TOKENS)
    q, k = mask.allowed(Grid(places, places, NUM_TOKENS)).nonzero().unbind(1)
    assert int((q - k).max()) == bound - 1


@pytest.mark.parametrize(
    "mask", [Causal(), Causal() & (Window(5) | Global(2)), Causal() | Window(5), ~Window(5)], ids=repr
)
def test_what_may_look_back_for_ever_has_no_bound(mask: Mask) -> None:
    assert reach(mask) is None
